"""Batch normalisation that is faster than Keras' layer in training with TensorFlow on a CPU."""

import math
from collections.abc import Callable
from functools import partial

import keras
from keras import layers, ops

from models import Tensor

if keras.config.backend() == "tensorflow":
    from models import tensorflow_operations

# With more values of a channel, the sums of the fused operation are inexact.
_MOST_FUSED = 2**20
# Feature maps of at most so many pixels are taken for small: in a batch of up to 256, they are.
_SMALL_MAP = 2**12


@keras.saving.register_keras_serializable(package="retina")
class BatchNormalization(layers.BatchNormalization):
    """Batch normalisation (Ioffe and Szegedy, ICML 2015) over N, H and W, with the weights of Keras' layer.

    If TensorFlow uses oneDNN, its fused operation takes a third of the time of `by_rows`, which is otherwise
    the fastest, and more exact for large batches. Other backends use Keras' layer. The arguments `momentum`,
    `epsilon`, `name`, `dtype` and the initialisers have an effect, other arguments of Keras' layer have none.
    """

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        """Return (N, H, W, C): in training, each channel has mean beta and standard deviation gamma."""
        if not training or not self.trainable or keras.config.backend() != "tensorflow":
            return super().call(x, training=training)
        # In bfloat16, the fused operation of oneDNN takes five times as long.
        arguments = (ops.cast(x, "float32"), ops.copy(self.gamma), ops.copy(self.beta), self.epsilon)
        normalised, mean, variance = _fastest(*arguments)
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1 - self.momentum))
        return ops.cast(normalised, self.compute_dtype)


def _fastest(x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    if not tensorflow_operations.onednn_is_used():
        return by_rows(x, gamma, beta, epsilon)
    fused = partial(tensorflow_operations.fused_batch_normalisation, x, gamma, beta, epsilon)
    _, height, width, _ = x.shape
    if height and width and height * width <= _SMALL_MAP:
        return fused()
    values = math.prod(ops.shape(x)[:3])
    return ops.cond(values <= _MOST_FUSED, fused, partial(by_rows, x, gamma, beta, epsilon))


def by_rows(x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise x (N, H, W, C) float32: y, mean (C,) and variance (C,) of this batch.

    TensorFlow sums and repeats values faster along long rows than along a few channels. So all channels of
    an image row form one row here. The gradient is that of the paper, in two passes.
    """
    number, height, width, channels = ops.shape(x)
    rows = ops.reshape(x, (number, height, width * channels))
    normalised, mean, variance = _row_normalisation(epsilon, channels)(rows, gamma, beta)
    return ops.reshape(normalised, (number, height, width, channels)), mean, variance


def _row_normalisation(epsilon: float, channels: int) -> Callable:
    """Return a function of rows (N, H, W * C), gamma (C,), beta (C,) that gives rows, mean, variance (C,)."""

    def channel_sums(rows: Tensor) -> Tensor:
        return ops.sum(ops.reshape(ops.sum(rows, axis=(0, 1)), (-1, channels)), axis=0)

    @ops.custom_gradient
    def normalise(rows: Tensor, gamma: Tensor, beta: Tensor) -> tuple[tuple[Tensor, ...], Callable]:
        length = ops.shape(rows)[-1]
        count = ops.cast(ops.size(rows), "float32") / channels

        def repeated(values: Tensor) -> Tensor:
            return ops.tile(values, (length // channels,))

        mean = channel_sums(rows) / count
        centred = rows - repeated(mean)
        variance = channel_sums(ops.square(centred)) / count
        inverse_deviation = ops.rsqrt(variance + epsilon)

        def gradient(d_rows: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
            d_beta = channel_sums(d_rows)
            d_gamma = channel_sums(d_rows * centred) * inverse_deviation
            slope = gamma * inverse_deviation
            d_rows = (
                d_rows * repeated(slope)
                - centred * repeated(slope * inverse_deviation * d_gamma / count)
                - repeated(slope * d_beta / count)
            )
            return d_rows, d_gamma, d_beta

        return (centred * repeated(gamma * inverse_deviation) + repeated(beta), mean, variance), gradient

    return normalise
