"""A trained network made ready to predict: batch normalisation becomes part of the convolutions."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from models.blocks import Tensor
from models.drop_block import DropBlock

Convolution = layers.Conv2D | layers.SeparableConv2D
DROPPING = (layers.Dropout, layers.SpatialDropout2D, DropBlock)
"""Nothing is dropped in prediction."""


def fold_batch_normalisation(model: keras.Model) -> keras.Model:
    """Return a network of the same answers, up to rounding, without batch normalisation behind convolutions.

    Once the moving statistics are fixed, normalising is a factor and an offset for each channel, which
    the kernel and the bias take over: two passes over the features less, and TensorFlow computes the
    ReLU with the convolution. The other layers are the model's own, shared with it; the model's answers stay.
    """
    convolved: dict[int, tuple[Convolution, Tensor, Tensor]] = {}

    def call(layer: layers.Layer, *inputs: Tensor, **arguments: Any) -> Tensor:
        if isinstance(layer, DROPPING):
            return inputs[0]
        if isinstance(layer, layers.BatchNormalization) and id(inputs[0]) in convolved:
            convolution, x, _ = convolved[id(inputs[0])]
            return _one_convolution(convolution, layer, x)
        output = layer(*inputs, **arguments)
        if isinstance(layer, Convolution) and layer.activation is keras.activations.linear:
            convolved[id(output)] = layer, inputs[0], output  # kept, so that its id stays its own
        return output

    return keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)


def _one_convolution(
    convolution: Convolution, normalisation: layers.BatchNormalization, x: Tensor
) -> Tensor:
    gamma, beta, mean, variance = (w.astype(np.float64) for w in normalisation.get_weights())
    kernels = convolution.get_weights()
    bias = kernels.pop() if convolution.use_bias else 0
    factor = gamma / np.sqrt(variance + normalisation.epsilon)
    settings = {"use_bias": True, "name": f"{normalisation.name}_folded"}
    both = type(convolution).from_config({**convolution.get_config(), **settings})
    output = both(x)
    both.set_weights([*kernels[:-1], kernels[-1] * factor, beta + (bias - mean) * factor])
    return output
