import keras
import numpy as np
import pytest
import tensorflow as tf  # noqa: TID251 - the layer is Keras' own under other backends

from models.normalisation import BatchNormalization


def trained_once(kind, x, wanted, dtype):
    """Output, gradients and moving statistics of one layer after one step of training."""
    layer = kind(momentum=0.9, dtype=dtype, gamma_initializer=keras.initializers.Constant(1.7))
    layer.build(x.shape)

    # sizes that are not known when the step is traced, as when they change from batch to batch
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
def test_training_is_that_of_keras(shape, dtype):
    random = np.random.default_rng(0)
    # far from zero, where a variance out of sums of squares would lose its digits
    x = (100 + 3 * random.standard_normal(shape)).astype(np.float32)
    wanted = random.standard_normal(shape).astype(np.float32)
    ours = trained_once(BatchNormalization, x, wanted, dtype)
    keras_own = trained_once(keras.layers.BatchNormalization, x, wanted, dtype)
    for found, expected in zip(ours, keras_own, strict=True):
        assert found.dtype == expected.dtype
        found, expected = (np.asarray(tf.cast(v, tf.float32)) for v in (found, expected))
        scale = np.abs(expected).max() or 1
        np.testing.assert_allclose(found / scale, expected / scale, atol=2e-4)


def test_what_is_not_trained_uses_the_moving_statistics():
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 3)).astype(np.float32)
    layer = BatchNormalization()
    layer.build(x.shape)
    layer.moving_mean.assign([1, 2, 3])
    expected = (x - [1, 2, 3]) / np.sqrt(1 + 1e-3)
    np.testing.assert_allclose(layer(x, training=False), expected, atol=1e-5)
    layer.trainable = False
    np.testing.assert_allclose(layer(x, training=True), expected, atol=1e-5)
    np.testing.assert_array_equal(layer.moving_mean, [1, 2, 3])
