"""U-Net (Ronneberger, Fischer, Brox, MICCAI 2015), plain or with VGG blocks as its encoder."""

from collections.abc import Sequence
from functools import partial

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
    vgg_encoder: bool = False,
) -> keras.Model:
    """Build one U; skip connections concatenate (arguments and shapes: see `models.build`).

    * filters: widths of the levels. The last is the width of the bottleneck; with `vgg_encoder` the last
      level and the bottleneck have this width.
    * dropout: between the two convolutions of a level, as in retina-unet; none in VGG blocks.
    * batch_normalisation: after every 3x3 convolution.
    * vgg_encoder: VGG blocks with their pooling as encoder.
    """
    convolution = partial(blocks.convolution, batch_normalisation=batch_normalisation)
    *levels, bottleneck = (*filters, filters[-1]) if vgg_encoder else filters

    def double_convolution(x: Tensor, width: int) -> Tensor:
        return convolution(Dropout(dropout)(convolution(x, width)), width)

    image, x = blocks.padded_input(2 ** len(levels), channels)
    skips = []
    for width in levels:
        if vgg_encoder:
            skip, x = blocks.vgg_block(x, width, batch_normalisation=batch_normalisation)
        else:
            skip = double_convolution(x, width)
            x = layers.MaxPooling2D()(skip)
        skips.append(skip)
    x = double_convolution(x, bottleneck)
    for width, skip in zip(reversed(levels), reversed(skips), strict=True):
        x = layers.Conv2DTranspose(width, 2, strides=2)(x)
        x = double_convolution(layers.Concatenate()([skip, x]), width)
    return blocks.segmentation_model(image, x, name)
