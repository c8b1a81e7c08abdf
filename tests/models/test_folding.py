"""Folding of single layers; whole networks are in test_architectures.py."""

import keras
import numpy as np
import pytest
from keras import layers

from models.folding import fold_for_prediction

FEATURES, SKIP = (None, None, 3), (None, None, 2)


def model_of(build):
    """A model whose output `build` makes from features, and from a skip connection of twice the size."""
    keras.utils.set_random_seed(1)
    features, skip = keras.Input(FEATURES), keras.Input(SKIP)
    model = keras.Model([features, skip], build(features, skip))
    for weight in model.weights:  # biases other than 0
        weight.assign(weight + 0.1)
    return model


def outputs(model):
    random = np.random.default_rng(0)
    inputs = [
        random.random((2, *side, shape[-1]), np.float32)
        for side, shape in (((5, 4), FEATURES), ((10, 8), SKIP))
    ]
    return np.asarray(keras.ops.convert_to_numpy(model(inputs)))


def convolution(**changes):
    return layers.Conv2D(
        **{"filters": 4, "kernel_size": 3, "padding": "same", "activation": "relu"} | changes
    )


def joined(features, skip, doubling=None):
    return layers.Concatenate()([(doubling or layers.UpSampling2D())(features), skip])


def called_twice(features, skip):
    shared, double = convolution(filters=3), layers.UpSampling2D()
    return layers.MaxPooling2D()(shared(double(layers.MaxPooling2D()(shared(double(features))))))


@pytest.mark.parametrize(
    "build",
    [
        lambda features, skip: convolution()(joined(features, skip)),
        lambda features, skip: convolution()(layers.UpSampling2D()(features)),
        lambda features, skip: layers.BatchNormalization()(
            convolution(activation=None)(joined(features, skip))
        ),
        lambda features, skip: convolution(activation="tanh")(joined(features, skip)),
        called_twice,
    ],
)
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_doubled_pixels_are_convolved_before_they_are_doubled(build, precision):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        model = model_of(build)
        folded = fold_for_prediction(model)
    finally:
        keras.config.set_dtype_policy(before)
    assert not any(isinstance(layer, layers.UpSampling2D) for layer in folded.layers)
    np.testing.assert_allclose(outputs(folded), outputs(model), atol=1e-6 if precision == "float32" else 0.05)
    assert any(
        isinstance(layer, layers.UpSampling2D)
        for layer in fold_for_prediction(model, upsampling=False).layers
    )


@pytest.mark.parametrize(
    "build",
    [
        lambda features, skip: convolution(strides=2)(joined(features, skip)),
        lambda features, skip: convolution(dilation_rate=2)(joined(features, skip)),
        lambda features, skip: convolution(kernel_size=5)(joined(features, skip)),
        lambda features, skip: convolution(padding="valid")(joined(features, skip)),
        lambda features, skip: convolution(filters=5, groups=5)(joined(features, skip)),
        lambda features, skip: convolution(use_bias=False)(joined(features, skip)),
        lambda features, skip: convolution()(
            joined(features, skip, layers.UpSampling2D(interpolation="bilinear"))
        ),
        lambda features, skip: convolution()(layers.UpSampling2D((2, 1))(features)),
        lambda features, skip: convolution()(layers.Concatenate()([skip, layers.UpSampling2D()(features)])),
        lambda features, skip: convolution()(layers.Concatenate()([joined(features, skip), skip])),
        lambda features, skip: convolution()(
            layers.Concatenate()([layers.UpSampling2D()(features), skip, skip])
        ),
    ],
)
def test_other_layers_stay(build):
    model = model_of(build)
    folded = fold_for_prediction(model)
    assert any(isinstance(layer, layers.UpSampling2D) for layer in folded.layers)
    np.testing.assert_allclose(outputs(folded), outputs(model), atol=1e-6)
