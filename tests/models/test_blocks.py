import keras
import numpy as np
import pytest
import tensorflow as tf  # noqa: TID251 (the gradient of one layer)

from models import blocks


def array(*shape):
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cbam_by_hand(x, hidden, hidden_bias, logits, logits_bias, kernel, kernel_bias):
    """Formulas 2 and 3 of Woo et al. (2018) for one image (H, W, C), in loops over pixels."""

    def perceptron(values):
        return np.maximum(values @ hidden + hidden_bias, 0) @ logits + logits_bias

    pixels = x.reshape(-1, x.shape[-1])
    x = x * sigmoid(perceptron(pixels.mean(0)) + perceptron(pixels.max(0)))
    planes = np.pad(np.stack([x.mean(-1), x.max(-1)], axis=-1), ((3, 3), (3, 3), (0, 0)))
    gated = np.empty_like(x)
    for row, column in np.ndindex(x.shape[:2]):
        window = planes[row : row + 7, column : column + 7]
        gate = sigmoid((window * kernel[..., 0]).sum() + kernel_bias[0])
        gated[row, column] = x[row, column] * gate
    return gated


def test_cbam_follows_the_formulas_of_woo():
    x = array(2, 9, 6, 4)
    layer = blocks.CBAM(reduction_ratio=2)
    layer.build(x.shape)
    layer.set_weights([array(*weight.shape) for weight in layer.weights])
    result = keras.ops.convert_to_numpy(layer(x))
    expected = np.stack([cbam_by_hand(image, *layer.get_weights()) for image in x])
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("ratio", "units"), [(4, 4), (8, 2), (16, 1), (32, 1)])
def test_cbam_divides_the_channels_by_the_ratio(ratio, units):
    layer = blocks.CBAM(reduction_ratio=ratio)
    layer.build((None, None, None, 16))
    assert layer.hidden.units == units


def test_shared_block_applies_one_convolution_twice():
    x = array(1, 5, 6, 3)
    image = keras.Input((None, None, 3))
    output = blocks.shared_block(image, dropout=0.5, batch_normalisation=False)
    block = keras.Model(image, output)
    kernel, bias = block.get_weights()
    once = np.maximum(keras.ops.convert_to_numpy(keras.ops.conv(x, kernel, padding="same")), 0)
    twice = keras.ops.convert_to_numpy(keras.ops.conv(once, kernel, padding="same"))
    assert kernel.shape == (3, 3, 3, 3)
    assert not bias.any()
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(block(x)), np.maximum(x + twice, 0), rtol=1e-4, atol=1e-6
    )


def test_each_application_of_the_shared_convolution_has_its_own_normalisation():
    image = keras.Input((None, None, 3))
    output = blocks.shared_block(image, dropout=0.5, batch_normalisation=True)
    assert keras.Model(image, output).count_params() == 3 * 3 * 3 * 3 + 2 * 4 * 3


@pytest.mark.parametrize("size", [(8, 16), (7, 9), (3, 2), (1, 1)])
def test_padding_mirrors_the_image_and_cropping_gives_it_back(size):
    image = array(2, *size, 1)
    padded = keras.ops.convert_to_numpy(blocks.MirrorPadding(8)(image))
    to_add = [(0, -length % 8) for length in size]
    np.testing.assert_array_equal(padded, np.pad(image, [(0, 0), *to_add, (0, 0)], mode="symmetric"))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(blocks.CropToImage()([padded, image])), image)
    assert blocks.MirrorPadding(8).compute_output_shape((2, *size, 1)) == padded.shape


def test_leaky_relu_is_the_same_in_training_and_in_prediction():
    x = np.array([[-200.0, -0.5, 0.0, 3.0]], np.float32)
    layer = blocks.LeakyReLU(0.01)
    for training in (False, True):
        found = keras.ops.convert_to_numpy(layer(x, training=training))
        np.testing.assert_allclose(found, [[-2.0, -0.005, 0.0, 3.0]], rtol=1e-6)


def test_the_gradient_of_leaky_relu_is_one_or_the_slope():
    x = tf.constant([[-200.0, -0.5, 0.5, 3.0]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = 2 * blocks.LeakyReLU(0.01)(x, training=True)
    np.testing.assert_allclose(tape.gradient(y, x), [[0.02, 0.02, 2, 2]], rtol=1e-6)
