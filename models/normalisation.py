"""Batch normalisation, cheaper than Keras' own layer where TensorFlow trains on a CPU."""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import layers, ops

Tensor = keras.KerasTensor


@keras.saving.register_keras_serializable(package="retina")
class BatchNormalization(layers.BatchNormalization):
    """Batch normalisation (Ioffe and Szegedy, ICML 2015) over N, H and W; the weights are Keras'.

    TensorFlow sums and spreads values faster along long rows than along a few channels, so a row of
    the image is one row here. The gradient is the paper's, in two passes. Other backends
    use Keras' own layer. Of its arguments `momentum`, `epsilon`, the initialisers, name and dtype
    are heeded.
    """

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        """Return (N, H, W, C), of mean beta and standard deviation gamma in training."""
        if not training or not self.trainable or keras.config.backend() != "tensorflow":
            return super().call(x, training=training)
        number, height, width, channels = ops.shape(x)
        rows = ops.reshape(ops.cast(x, "float32"), (number, height, width * channels))
        normalised, mean, variance = _normalise(self.epsilon, channels)(
            rows, ops.copy(self.gamma), ops.copy(self.beta)
        )
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1 - self.momentum))
        normalised = ops.reshape(normalised, (number, height, width, channels))
        return ops.cast(normalised, self.compute_dtype)


def _normalise(epsilon: float, channels: int) -> Callable:
    """Rows (N, H, W * C), gamma (C,) and beta (C,) to rows, mean (C,) and variance (C,)."""

    def total(rows: Tensor) -> Tensor:
        return ops.sum(ops.reshape(ops.sum(rows, axis=(0, 1)), (-1, channels)), axis=0)

    @ops.custom_gradient
    def normalise(rows: Tensor, gamma: Tensor, beta: Tensor) -> tuple[tuple[Tensor, ...], Callable]:
        length = ops.shape(rows)[-1]
        count = ops.cast(ops.size(rows), "float32") / channels

        def spread(values: Tensor) -> Tensor:
            return ops.tile(values, (length // channels,))

        mean = total(rows) / count
        centred = rows - spread(mean)
        variance = total(ops.square(centred)) / count
        inverse = ops.rsqrt(variance + epsilon)

        def gradient(of_rows: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
            of_beta = total(of_rows)
            of_gamma = total(of_rows * centred) * inverse
            slope = gamma * inverse
            of_rows = (
                of_rows * spread(slope)
                - centred * spread(slope * inverse * of_gamma / count)
                - spread(slope * of_beta / count)
            )
            return of_rows, of_gamma, of_beta

        return (centred * spread(gamma * inverse) + spread(beta), mean, variance), gradient

    return normalise
