"""Deep residual U-Net (Zhang, Liu, Wang, arXiv 1711.10684)."""

from collections.abc import Sequence

import keras
from keras import layers

from models import Tensor, blocks
from models.dropout import Dropout


def build(
    *,
    name: str,
    filters: Sequence[int],
    dropout: float,
    reduction_ratio: int,
    batch_normalisation: bool,
    channels: int,
) -> keras.Model:
    """Build one U of pre-activation residual units (arguments and shapes: see `models.build`).

    * filters: widths of the levels; the last is the width of the bridge, as in table 1 of the paper.
    * dropout: between the two convolutions of a unit; the paper has none.
    * batch_normalisation: before every 3x3 convolution except the first.
    """

    def activated(x: Tensor) -> Tensor:
        return layers.ReLU()(blocks.normalised(x) if batch_normalisation else x)

    def residual_unit(x: Tensor, width: int, *, strides: int = 1, first: bool = False) -> Tensor:
        y = x if first else activated(x)
        y = blocks.bare_convolution(width, strides=strides)(y)
        y = Dropout(dropout)(activated(y))
        y = blocks.bare_convolution(width)(y)
        # Each unit changes the size or the width, so that every shortcut needs a 1x1 convolution.
        return layers.Add()([y, layers.Conv2D(width, 1, strides=strides)(x)])

    *levels, bridge = filters
    image, x = blocks.padded_input(2 ** len(levels), channels)
    skips = []
    for level, width in enumerate(levels):
        first = level == 0
        x = residual_unit(x, width, strides=1 if first else 2, first=first)
        skips.append(x)
    x = residual_unit(x, bridge, strides=2)
    for width, skip in zip(reversed(levels), reversed(skips), strict=True):
        x = layers.Concatenate()([layers.UpSampling2D()(x), skip])
        x = residual_unit(x, width)
    return blocks.segmentation_model(image, x, name)
