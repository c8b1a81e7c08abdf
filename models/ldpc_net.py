"""LDPC-Net (Sun et al., Math. Biosci. Eng. 20(6), 2023, doi 10.3934/mbe.2023479) and its ablations.

A cascade of two U's: the first computes a rough map; the second gets the image and the rough map, and refines
the rough map.
"""

from collections.abc import Sequence
from functools import partial

import keras
from keras import layers

from models import Tensor, blocks
from models.drop_block import DropBlock

ATROUS_RATES = (2, 4, 8)


def build(
    *,
    name: str,
    filters: Sequence[int],
    dropout: float,
    reduction_ratio: int,
    batch_normalisation: bool,
    channels: int,
    structured_discarding: bool = True,
    resaspp: bool = True,
) -> keras.Model:
    """Build the cascade (arguments and shapes: see `models.build`).

    * filters: widths of the levels, 64 128 256 in LDPC-Net; the last is the width of the bottleneck.
    * dropout: rate of DropBlock in the structured-discarding (SD) blocks.
    * batch_normalisation: after every 3x3 convolution.
    * structured_discarding: SD blocks; otherwise the two plain convolutions of U-Net.
    * resaspp: residual atrous pyramid in the bottleneck of each U.
    """

    def normalised(x: Tensor) -> Tensor:
        return blocks.normalised(x) if batch_normalisation else x

    def plain_block(x: Tensor, width: int) -> Tensor:
        for _ in range(2):
            x = blocks.convolution(x, width, batch_normalisation=batch_normalisation)
        return x

    def sd_block(x: Tensor, width: int, *, residual: bool) -> Tensor:
        y = x
        for _ in range(2):
            y = layers.SeparableConv2D(
                width, 3, padding="same", depthwise_initializer="he_normal", pointwise_initializer="he_normal"
            )(y)
            y = layers.ReLU()(normalised(DropBlock(dropout)(y)))
        if not residual:
            return y
        return layers.Add()([y, layers.Conv2D(width, 1)(x)])

    def one_u(x: Tensor, *, residual: bool) -> Tensor:
        block = partial(sd_block, residual=residual) if structured_discarding else plain_block
        pyramid = [residual_atrous_pyramid] if resaspp else []
        return blocks.concatenating_u(x, filters, block, *pyramid)

    image, padded = blocks.padded_input(2 ** (len(filters) - 1), channels)
    # The order in which layers are created decides the initial weights of a seed.
    # In float32: in bfloat16, probabilities above .998 would be 1, and a loss on them has no gradient.
    rough_layer = layers.Conv2D(1, 1, activation="sigmoid", name=blocks.ROUGH_MAP_LAYER, dtype="float32")
    rough = rough_layer(one_u(padded, residual=False))
    refined = one_u(layers.Concatenate()([rough, padded]), residual=True)
    return blocks.segmentation_model(image, refined, name)


def residual_atrous_pyramid(x: Tensor) -> Tensor:
    """ResASPP: the sum of three residual atrous branches, then a 1x1 convolution.

    A branch is a 1x1 convolution to half the width, a 3x3 convolution with dilation (rates 2, 4, 8) and a 1x1
    convolution to the full width.
    """
    width = x.shape[-1]
    convolution = partial(layers.Conv2D, padding="same", activation="relu", kernel_initializer="he_normal")
    branches = []
    for rate in ATROUS_RATES:
        y = convolution(max(1, width // 2), 1)(x)
        y = convolution(max(1, width // 2), 3, dilation_rate=rate)(y)
        branches.append(layers.Add()([x, convolution(width, 1)(y)]))
    return convolution(width, 1)(layers.Add()(branches))
