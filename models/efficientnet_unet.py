"""U-Net whose encoder is EfficientNet-Lite0, which can begin with weights that were trained on ImageNet.

EfficientNet: Tan and Le, ICML 2019; EfficientNet-Lite has ReLU6 and no squeeze-and-excitation, and its stem
keeps its width (github.com/tensorflow/tpu, models/official/efficientnet/lite). Its batch normalisation is
folded into the convolutions: with the fixed statistics of ImageNet it is a factor and an offset.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import layers

from models import Tensor, blocks
from models.dropout import Dropout

STEM_FILTERS = 32


class _Stage(NamedTuple):
    expansion: int
    filters: int
    blocks: int
    stride: int
    kernel: int


# The last stage of EfficientNet-Lite0 (320 channels) and its head are left out.
STAGES = (
    _Stage(1, 16, 1, 1, 3),
    _Stage(6, 24, 2, 2, 3),
    _Stage(6, 40, 2, 2, 5),
    _Stage(6, 80, 3, 2, 3),
    _Stage(6, 112, 3, 1, 5),
    _Stage(6, 192, 4, 2, 5),
)

MOST_LEVELS = 1 + sum(stage.stride == 2 for stage in STAGES)


def build(
    *,
    name: str,
    filters: Sequence[int],
    dropout: float,
    reduction_ratio: int,
    batch_normalisation: bool,
    channels: int,
) -> keras.Model:
    """Build the network (arguments and shapes: see `models.build`).

    * filters: widths of the decoder, from full resolution down; with n widths the encoder halves the image n
      times, at most five times.
    * dropout: between the two convolutions of a level of the decoder.
    * batch_normalisation: in the decoder.

    Raises:
        ValueError: more than five filters.
    """
    if len(filters) > MOST_LEVELS:
        raise ValueError(f"filters: found {len(filters)} numbers, expected at most {MOST_LEVELS} for {name}")
    image, x = blocks.padded_input(2 ** len(filters), channels)
    # Twice the range of EfficientNet-Lite: angiograms use about half of the grey levels.
    x = layers.Rescaling(4.0, -2.0)(x)
    *skips, x = _encoder(x, len(filters))
    for width, skip in zip(reversed(filters), reversed(skips), strict=True):
        x = layers.Concatenate()([layers.UpSampling2D()(x), skip])
        x = blocks.convolution(x, width, batch_normalisation=batch_normalisation)
        x = blocks.convolution(Dropout(dropout)(x), width, batch_normalisation=batch_normalisation)
    # Without this bias, the trainings of some seeds began and ended at about twice the loss of the others.
    return blocks.segmentation_model(image, x, name, bias=-2.0)


def encoder_layers(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """The convolutions of the encoder by name, from the stem to the last block."""
    return {layer.name: layer for layer in model.layers if layer.name.startswith(("stem", "block"))}


def _encoder(x: Tensor, levels: int) -> list[Tensor]:
    """The image, then the features before each further halving, and the last features."""
    features = [x]
    x = _convolution(STEM_FILTERS, 3, 2, name="stem")(x)
    x = layers.ReLU(6.0)(x)
    number = 0
    for stage in STAGES:
        if stage.stride == 2:
            if len(features) == levels:
                break
            features.append(x)
        for index in range(stage.blocks):
            number += 1
            x = _inverted_residual(x, stage, stage.stride if index == 0 else 1, f"block{number}")
    return [*features, x]


def _inverted_residual(x: Tensor, stage: _Stage, stride: int, name: str) -> Tensor:
    """Expand the channels, convolve each of them, project (MobileNetV2; Sandler et al., CVPR 2018)."""
    y, width = x, x.shape[-1]
    if stage.expansion > 1:
        y = layers.ReLU(6.0)(_convolution(width * stage.expansion, 1, name=f"{name}_expand")(y))
    # He et al. (ICCV 2015): an output sums k * k products. Keras would count the channels as well.
    initializer = keras.initializers.HeNormal(input_axes=(0, 1), output_axes=(0, 1, 3))
    depthwise = layers.DepthwiseConv2D(
        stage.kernel, stride, padding="same", depthwise_initializer=initializer, name=f"{name}_depthwise"
    )
    y = layers.ReLU(6.0)(depthwise(y))
    y = _convolution(stage.filters, 1, name=f"{name}_project")(y)
    return layers.Add()([x, y]) if stride == 1 and width == stage.filters else y


def _convolution(filters: int, kernel: int, stride: int = 1, **kwargs: Any) -> layers.Conv2D:
    return layers.Conv2D(filters, kernel, stride, padding="same", kernel_initializer="he_normal", **kwargs)
