"""Folding: batch normalisation and up-sampling become part of the convolutions, for faster prediction."""

from collections.abc import Sequence
from itertools import count, product
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import layers

from models import Tensor
from models.drop_block import DropBlock

Convolution: TypeAlias = layers.Conv2D | layers.SeparableConv2D
DROPOUT_LAYERS = (layers.Dropout, layers.SpatialDropout2D, DropBlock)
"""Layers that change nothing in prediction."""


def fold_for_prediction(model: keras.Model, *, upsampling: bool = True) -> keras.Model:
    """Return a network with the same output, up to rounding, that predicts faster.

    Call it when the weights are final: some layers are copies.

    In prediction, batch normalisation is a factor and an offset for each channel. They become part of the
    kernel and the bias of the convolution before it: this saves two passes over the features, and TensorFlow
    computes the ReLU with the convolution. A 3x3 convolution of features whose pixels were doubled becomes a
    4x4 transposed convolution of these features, with 4 instead of 9 products for each of them;
    not without `upsampling`. The network shares its other layers with `model`, whose output does not change.
    """
    folding = _Folding(upsampling)
    return keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=folding)


class _Folding:
    """Calls the layers of a network in their order, or others that compute the same."""

    def __init__(self, upsampling: bool) -> None:
        self._upsampling = upsampling
        self._numbers = count(1)
        # By the id of an output; the output is kept, so that no other tensor gets its id.
        self._convolved: dict[int, tuple[Convolution, Tensor, Tensor]] = {}
        self._doubled: dict[int, tuple[Tensor, Tensor]] = {}
        self._joined: dict[int, tuple[Sequence[Tensor], Tensor]] = {}

    def __call__(self, layer: layers.Layer, *inputs: Any, **arguments: Any) -> Tensor:
        """The output of a layer."""
        x = inputs[0]
        if isinstance(layer, DROPOUT_LAYERS):
            return x
        if isinstance(layer, layers.BatchNormalization) and id(x) in self._convolved:
            convolution, x, _ = self._convolved[id(x)]
            return self._convolution_of(_with_normalisation(convolution, layer), x)
        if isinstance(layer, Convolution) and layer.activation is keras.activations.linear:
            output = layer(x)
            self._convolved[id(output)] = layer, x, output
            return output
        if isinstance(layer, Convolution):
            return self._convolution_of(layer, x)
        output = layer(*inputs, **arguments)
        if self._upsampling and _doubles_pixels(layer):
            self._doubled[id(output)] = x, output
        elif type(layer) is layers.Concatenate and layer.axis == -1:
            self._joined[id(output)] = x, output
        return output

    def _convolution_of(self, layer: Convolution, x: Tensor) -> Tensor:
        """The output of a convolution, also of doubled pixels, alone or followed by a skip connection."""
        (first, *skip), _ = self._joined.get(id(x), ([x], x))
        if id(first) not in self._doubled or skip[1:] or not _is_plain_3x3(layer):
            return layer(x)
        features, _ = self._doubled[id(first)]
        kernel, bias = layer.get_weights()
        of_doubled, of_skip = np.split(kernel, [features.shape[-1]], axis=2)
        number = next(self._numbers)  # not the layer's name: it may be called several times

        def settings(kind: str) -> dict[str, Any]:
            return {"dtype": layer.dtype_policy, "name": f"replaced_{number}_{kind}"}

        transposed = layers.Conv2DTranspose(
            layer.filters, 4, strides=2, padding="same", use_bias=not skip, **settings("transposed")
        )
        output = transposed(features)
        transposed.set_weights([_transposed_kernel(of_doubled), *([] if skip else [bias])])
        if skip:
            convolution = layers.Conv2D(layer.filters, 3, padding="same", **settings("skip"))
            output = layers.Add(**settings("sum"))([output, convolution(skip[0])])
            convolution.set_weights([of_skip, bias])
        if layer.activation is keras.activations.linear:
            return output
        return layers.Activation(layer.activation, **settings("activation"))(output)


def _doubles_pixels(layer: layers.Layer) -> bool:
    return type(layer) is layers.UpSampling2D and (layer.size, layer.interpolation) == ((2, 2), "nearest")


def _is_plain_3x3(layer: Convolution) -> bool:
    return (
        type(layer) is layers.Conv2D
        and layer.kernel_size == (3, 3)
        and (layer.strides, layer.dilation_rate, layer.groups) == ((1, 1), (1, 1), 1)
        and layer.padding == "same"
        and layer.use_bias
    )


def _transposed_kernel(kernel: np.ndarray) -> np.ndarray:
    """The kernel (4, 4, F, C) of the transposed convolution that replaces doubling and a kernel (3, 3, C, F).

    Pixel y of the features is rows 2 y and 2 y + 1 after doubling; row d of the kernel adds row r to row
    r + 1 - d.
    """
    transposed = np.zeros((4, 4, *kernel.shape[:1:-1]), kernel.dtype)
    for (row, column), copy_row, copy_column in product(np.ndindex(3, 3), (0, 1), (0, 1)):
        transposed[copy_row + 2 - row, copy_column + 2 - column] += kernel[row, column].T
    return transposed


def _with_normalisation(convolution: Convolution, normalisation: layers.BatchNormalization) -> Convolution:
    """One convolution that does the work of both layers."""
    gamma, beta, mean, variance = (w.astype(np.float64) for w in normalisation.get_weights())
    kernels = convolution.get_weights()
    bias = kernels.pop() if convolution.use_bias else 0
    factor = gamma / np.sqrt(variance + normalisation.epsilon)
    settings = {"use_bias": True, "name": f"{normalisation.name}_folded"}
    folded = type(convolution).from_config({**convolution.get_config(), **settings})
    folded.build((None, None, None, kernels[0].shape[2]))
    folded.set_weights([*kernels[:-1], kernels[-1] * factor, beta + (bias - mean) * factor])
    return folded
