"""Dropout layers that are faster on a CPU than those of Keras."""

import keras
from keras import layers, ops

from models import Tensor


@keras.saving.register_keras_serializable(package="retina")
class Dropout(layers.Dropout):
    """Dropout (Srivastava et al., JMLR 15, 2014) with one random byte an element; Keras draws a float.

    The rate is rounded to 1/256. The elements that are kept are divided by the share kept on average.
    """

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        """Return (N, ..., C) with elements set to 0 in training, x itself otherwise."""
        dropped = round(256 * self.rate)
        if not training or not dropped:
            return x
        *others, channels = ops.shape(x)
        shape = (*others, -(-channels // 4))
        drawn = keras.random.randint(shape, -(2**31), 2**31 - 1, seed=self.seed_generator)
        kept = ops.view(drawn, "uint8")[..., :channels] >= dropped
        return x * (ops.cast(kept, x.dtype) * (256 / (256 - dropped)))


@keras.saving.register_keras_serializable(package="retina")
class SpatialDropout(layers.SpatialDropout2D):
    """Dropout of whole channels (Tompson et al., CVPR 2015) by multiplication; Keras selects."""

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        """Return (N, H, W, C) with channels set to 0 in training, x itself otherwise."""
        if not training or not self.rate:
            return x
        number, _, _, channels = ops.shape(x)
        drawn = keras.random.uniform((number, 1, 1, channels), seed=self.seed_generator)
        return x * (ops.cast(drawn >= self.rate, x.dtype) * (1 / (1 - self.rate)))
