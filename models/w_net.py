"""W-Net (Galdran et al., Scientific Reports 12, 2022, doi 10.1038/s41598-022-09675-y): a small cascade.

Two U's of few filters: the first computes a rough map; the second gets the image and the logit of the rough
map, and refines the rough map.
"""

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
    """Build the cascade (arguments and shapes: see `models.build`).

    * filters: widths of the levels, 8 16 32 in the paper; the last is the width of the bottleneck.
    * dropout: between the two convolutions of a block; the paper has none.
    * batch_normalisation: after every 3x3 convolution.
    """

    def residual_block(x: Tensor, width: int) -> Tensor:
        y = blocks.convolution(x, width, batch_normalisation=batch_normalisation)
        y = blocks.convolution(Dropout(dropout)(y), width, batch_normalisation=batch_normalisation)
        return layers.Add()([y, layers.Conv2D(width, 1)(x)])

    def transposed_convolution(x: Tensor, width: int) -> Tensor:
        return layers.Conv2DTranspose(width, 2, strides=2)(x)

    def one_u(x: Tensor) -> Tensor:
        return blocks.concatenating_u(x, filters, residual_block, enlarge=transposed_convolution)

    image, padded = blocks.padded_input(2 ** (len(filters) - 1), channels)
    logit = layers.Conv2D(1, 1, name=blocks.ROUGH_MAP_LAYER)(one_u(padded))
    refined = one_u(layers.Concatenate()([padded, logit]))
    return blocks.segmentation_model(image, refined, name)
