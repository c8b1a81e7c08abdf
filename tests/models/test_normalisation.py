import keras
import numpy as np
import pytest
import tensorflow as tf  # noqa: TID251 (other backends use the layer of Keras)

from models.normalisation import BatchNormalization


def trained_once(kind, x, wanted, dtype):
    """Output, gradients and moving statistics of one layer after one step of training."""
    layer = kind(momentum=0.9, dtype=dtype, gamma_initializer=keras.initializers.Constant(1.7))
    layer.build(x.shape)

    # The sizes are unknown when the step is traced, as in a training whose batches differ in size.
    @tf.function(input_signature=[tf.TensorSpec((None, None, None, x.shape[-1]))])
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tf.reduce_sum(tf.cast(y, tf.float32) * wanted)
        return y, tape.gradient(loss, [x, *layer.trainable_variables])

    y, gradients = step(x)
    return [y, *gradients, *layer.non_trainable_variables]


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("shape", [(4, 7, 5, 3), (9, 1, 1, 6), (1, 6, 9, 1)])
def test_training_agrees_with_the_layer_of_keras(shape, dtype):
    random = np.random.default_rng(0)
    # Values far from zero: a variance computed from sums of squares would be inexact.
    x = (100 + 3 * random.standard_normal(shape)).astype(np.float32)
    wanted = random.standard_normal(shape).astype(np.float32)
    ours = trained_once(BatchNormalization, x, wanted, dtype)
    reference = trained_once(keras.layers.BatchNormalization, x, wanted, dtype)
    for found, expected in zip(ours, reference, strict=True):
        assert found.dtype == expected.dtype
        found, expected = (np.asarray(tf.cast(v, tf.float32)) for v in (found, expected))
        scale = np.abs(expected).max() or 1
        np.testing.assert_allclose(found / scale, expected / scale, atol=2e-4)


def test_a_layer_that_is_not_trained_uses_the_moving_statistics():
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 3)).astype(np.float32)
    layer = BatchNormalization()
    layer.build(x.shape)
    layer.moving_mean.assign([1, 2, 3])
    expected = (x - [1, 2, 3]) / np.sqrt(1 + 1e-3)
    np.testing.assert_allclose(layer(x, training=False), expected, atol=1e-5)
    layer.trainable = False
    np.testing.assert_allclose(layer(x, training=True), expected, atol=1e-5)
    np.testing.assert_array_equal(layer.moving_mean, [1, 2, 3])
