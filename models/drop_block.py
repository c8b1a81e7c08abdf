"""DropBlock (Ghiasi, Lin, Le, NeurIPS 2018): dropout of contiguous squares."""

from typing import Any

import keras
from keras import layers, ops

from models import Tensor


@keras.saving.register_keras_serializable(package="retina")
class DropBlock(layers.Layer):
    """Set squares of a feature map to 0 in training and scale up the other pixels.

    The border may cut a square, so that every pixel is dropped with probability `rate` exactly: the
    probability of a centre is 1 - (1 - rate)^(1 / block_size^2). The paper has an approximation that
    drops fewer pixels at the border. All channels of a map lose the same squares, which needs a
    hundredth of the random numbers. The pixels that are kept are divided by the share of pixels kept;
    a map of which no pixel is kept is 0, without a division by 0.

    The layer uses the rate in its variable `rate_now`, which a training may increase up to `rate`.
    """

    def __init__(self, rate: float, block_size: int = 7, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate, self.block_size = rate, block_size
        self.seed_generator = keras.random.SeedGenerator()

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create `rate_now`."""
        constant = keras.initializers.Constant(self.rate)
        self.rate_now = self.add_weight(
            shape=(),
            initializer=constant,
            trainable=False,
            dtype="float32",
            autocast=False,  # bfloat16 would round the small probability of a centre to 0
            name="rate_now",
        )

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        """Return (N, H, W, C) with squares of 0 in training, x itself otherwise."""
        if not training or not self.rate:
            return x
        number, height, width, _ = ops.shape(x)
        size = self.block_size
        centre = 1 - (1 - self.rate_now) ** (1 / size**2)
        # A centre may lie outside the map if its square reaches into the map.
        grid = (number, height + size - 1, width + size - 1, 1)
        drawn = keras.random.uniform(grid, dtype="float32", seed=self.seed_generator)
        hit = ops.cast(drawn < centre, "float32")
        kept = 1 - ops.max_pool(hit, size, strides=1, padding="valid")
        share = ops.mean(kept, axis=(1, 2, 3), keepdims=True)
        one_pixel = 1 / ops.cast(height * width, "float32")
        return x * ops.cast(kept / ops.maximum(share, one_pixel), x.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "rate": self.rate, "block_size": self.block_size}
