"""W-Net (Galdran et al., Scientific Reports 12, 2022, doi 10.1038/s41598-022-09675-y): a small cascade.

Two U's of few filters, with the layers of the authors' code (github.com/agaldran/lwnet): the first computes a
rough map; the second gets the image and the logit of the rough map, and refines the rough map.
"""

from collections.abc import Sequence

import keras
from keras import layers

from models import Tensor, blocks
from models.dropout import Dropout

# The default of the authors' framework; Keras' default is 0.3.
_NEGATIVE_SLOPE = 0.01


def build(
    *,
    name: str,
    filters: Sequence[int],
    dropout: float,
    reduction_ratio: int,
    batch_normalisation: bool,
    channels: int,
) -> keras.Model:
    """Build the cascade (arguments and shapes: see `models.build`).

    * filters: widths of the levels, 8 16 32 in the paper; the last is the width of the bottleneck.
    * dropout: between the two convolutions of a block; the paper has none.
    * batch_normalisation: after every 3x3 convolution, and in the shortcut of a block.
    """
    normalised = blocks.normalised if batch_normalisation else lambda x: x

    def convolution(x: Tensor, width: int) -> Tensor:
        return normalised(blocks.LeakyReLU(_NEGATIVE_SLOPE)(blocks.bare_convolution(width)(x)))

    def residual_block(x: Tensor, width: int) -> Tensor:
        shortcut = layers.Conv2D(width, 1, use_bias=not batch_normalisation)(x)
        y = Dropout(dropout)(convolution(x, width))
        return layers.Add()([convolution(y, width), normalised(shortcut)])

    def one_u(x: Tensor) -> Tensor:
        *levels, bottleneck = filters
        skips = []
        for width in levels:
            skips.append(residual_block(x, width))
            x = layers.MaxPooling2D()(skips[-1])
        x = residual_block(x, bottleneck)
        for width, skip in zip(reversed(levels), reversed(skips), strict=True):
            x = layers.Conv2DTranspose(width, 2, strides=2)(x)
            x = residual_block(layers.Concatenate()([x, convolution(skip, width)]), width)
        return x

    image, padded = blocks.padded_input(2 ** (len(filters) - 1), channels)
    logit = layers.Conv2D(1, 1, name=blocks.ROUGH_MAP_LAYER)(one_u(padded))
    refined = one_u(layers.Concatenate()([padded, logit]))
    return blocks.segmentation_model(image, refined, name)
