"""Folding: batch normalisation becomes part of the convolutions, for faster prediction."""

from typing import Any, TypeAlias

import keras
import numpy as np
from keras import layers

from models import Tensor
from models.drop_block import DropBlock

Convolution: TypeAlias = layers.Conv2D | layers.SeparableConv2D
DROPOUT_LAYERS = (layers.Dropout, layers.SpatialDropout2D, DropBlock)
"""Layers that change nothing in prediction."""


def fold_batch_normalisation(model: keras.Model) -> keras.Model:
    """Return a network with the same output, up to rounding, without batch normalisation after convolutions.

    In prediction, batch normalisation is a factor and an offset for each channel. They become part of the
    kernel and the bias: this saves two passes over the features, and TensorFlow computes the ReLU with the
    convolution. The network shares its other layers with `model`, whose output does not change.
    """
    # The id of the output of a convolution: the layer, its input and its output.
    convolved: dict[int, tuple[Convolution, Tensor, Tensor]] = {}

    def call(layer: layers.Layer, *inputs: Tensor, **arguments: Any) -> Tensor:
        if isinstance(layer, DROPOUT_LAYERS):
            return inputs[0]
        if isinstance(layer, layers.BatchNormalization) and id(inputs[0]) in convolved:
            convolution, x, _ = convolved[id(inputs[0])]
            return _folded(convolution, layer, x)
        output = layer(*inputs, **arguments)
        if isinstance(layer, Convolution) and layer.activation is keras.activations.linear:
            # The output is kept, so that no other tensor gets its id.
            convolved[id(output)] = layer, inputs[0], output
        return output

    return keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)


def _folded(convolution: Convolution, normalisation: layers.BatchNormalization, x: Tensor) -> Tensor:
    """The output of one convolution that does the work of both layers."""
    gamma, beta, mean, variance = (w.astype(np.float64) for w in normalisation.get_weights())
    kernels = convolution.get_weights()
    bias = kernels.pop() if convolution.use_bias else 0
    factor = gamma / np.sqrt(variance + normalisation.epsilon)
    settings = {"use_bias": True, "name": f"{normalisation.name}_folded"}
    folded = type(convolution).from_config({**convolution.get_config(), **settings})
    output = folded(x)
    folded.set_weights([*kernels[:-1], kernels[-1] * factor, beta + (bias - mean) * factor])
    return output
