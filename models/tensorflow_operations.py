"""Operations of TensorFlow that `keras.ops` does not have; only for the TensorFlow backend."""

from collections.abc import Callable

import tensorflow as tf  # noqa: TID251 (imported only if TensorFlow is the backend)
from tensorflow.python.util import _pywrap_util_port  # noqa: TID251 (no public function tells it)


def onednn_is_used() -> bool:
    """Say whether TensorFlow computes with oneDNN: by default with AVX-512, see TF_ENABLE_ONEDNN_OPTS."""
    return _pywrap_util_port.IsMklEnabled()


def leaky_relu(x: tf.Tensor, negative_slope: float) -> tf.Tensor:
    """Return x where it is positive, and `negative_slope` (from 0 to 1) times x elsewhere; same shape.

    The gradient is one operation. The gradient of `tf.maximum` is six, and takes ten times as long.
    """

    @tf.custom_gradient
    def activate(x: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        y = tf.maximum(x, x * negative_slope)

        def gradient(d_y: tf.Tensor) -> tf.Tensor:
            return tf.raw_ops.LeakyReluGrad(gradients=d_y, features=y, alpha=negative_slope)

        return y, gradient

    return activate(x)


def fused_batch_normalisation(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Normalise x (N, H, W, C) in one operation: y, mean (C,) and variance (C,) of this batch, both float32.

    The gradient is one operation too.
    """
    empty = tf.zeros((0,))
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=empty, variance=empty, epsilon=epsilon, is_training=True
    )
    # The operation divides by n - 1, Keras' layer by n.
    count = tf.cast(tf.size(x) / tf.shape(x)[-1], "float32")
    return y, mean, variance * (tf.maximum(count - 1, 1) / count)
