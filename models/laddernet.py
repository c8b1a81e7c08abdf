"""LadderNet (Zhuang, arXiv 1810.07810) and its four variants from the Enhance LadderNet paper."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import keras
from keras import layers

from models import Tensor, blocks

Place = Literal["encoder", "decoder"]


def build(
    *,
    name: str,
    filters: Sequence[int],
    dropout: float,
    reduction_ratio: int,
    batch_normalisation: bool,
    channels: int,
    vgg_encoder: bool = False,
    cbam: Place | None = None,
) -> keras.Model:
    """Build two U's in a row, with sums as skip connections (arguments and shapes: see `models.build`).

    * filters: widths of the levels, each of which ends with down-sampling; the bottleneck has the last.
    * dropout: dropout rate in the shared blocks.
    * reduction_ratio: reduction ratio of CBAM.
    * batch_normalisation: after every convolution except the transposed ones and the last.
    * vgg_encoder: VGG blocks instead of shared blocks and strided convolutions in the encoder of the
      first U.
    * cbam: the part of the first U in which attention follows each level.
    """
    convolution = partial(blocks.convolution, batch_normalisation=batch_normalisation)
    shared_block = partial(blocks.shared_block, dropout=dropout, batch_normalisation=batch_normalisation)

    def strided_level(x: Tensor, level: int) -> tuple[Tensor, Tensor]:
        skip = shared_block(x)
        return skip, convolution(skip, (*filters, filters[-1])[level + 1], strides=2)

    def vgg_level(x: Tensor, level: int) -> tuple[Tensor, Tensor]:
        return blocks.vgg_block(x, filters[level], batch_normalisation=batch_normalisation)

    def u_net(
        x: Tensor,
        encoder_level: Callable[[Tensor, int], tuple[Tensor, Tensor]],
        previous: Sequence[Tensor] = (),
        cbam: Place | None = None,
    ) -> list[Tensor]:
        """Return the features of each decoder level, from full resolution down."""
        skips, decoded = [], []
        for level in range(len(filters)):
            # At full resolution x is the output of the previous U itself.
            if previous and level:
                x = layers.Add()([x, previous[level]])
            skip, x = encoder_level(x, level)
            skips.append(skip)
            if cbam == "encoder":
                x = blocks.CBAM(reduction_ratio)(x)
        x = shared_block(x)
        for width, skip in zip(reversed(filters), reversed(skips), strict=True):
            x = layers.Conv2DTranspose(width, 3, strides=2, padding="same")(x)
            x = shared_block(layers.Add()([x, skip]))
            if cbam == "decoder":
                x = blocks.CBAM(reduction_ratio)(x)
            decoded.append(x)
        return decoded[::-1]

    image, x = blocks.padded_input(2 ** len(filters), channels)
    x = convolution(x, filters[0])
    first = u_net(x, vgg_level if vgg_encoder else strided_level, cbam=cbam)
    second = u_net(first[0], strided_level, previous=first)
    return blocks.segmentation_model(image, second[0], name)
