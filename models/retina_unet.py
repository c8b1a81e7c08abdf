"""retina-unet and retina-gnet (github.com/orobix/retina-unet, 2016-2018), built for vessels on DRIVE."""

from collections.abc import Sequence
from functools import partial

import keras
from keras import layers, ops

from models import Tensor, blocks
from models.dropout import Dropout


@keras.saving.register_keras_serializable(package="retina")
class TwoClassHead(layers.Conv2D):
    """Last layer of the original: 1x1 convolution to two classes, ReLU, softmax. Returns class 1.

    The ReLU before the softmax removes half of the range of each class and may be a mistake, but the
    published weights were trained with it.
    """

    def call(self, x: Tensor) -> Tensor:
        """Return the probability of class 1: (N, H, W, 1) from features (N, H, W, C)."""
        return ops.softmax(ops.relu(super().call(x)), axis=-1)[..., 1:]

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the input's shape with one channel."""
        return (*input_shape[:-1], 1)


def build(
    *,
    name: str,
    filters: Sequence[int],
    dropout: float,
    reduction_ratio: int,
    batch_normalisation: bool,
    channels: int,
    upsampled_first: bool = False,
) -> keras.Model:
    """Build retina-unet or retina-gnet (arguments and shapes: see `models.build`).

    * filters: widths of the levels, 32 64 128 in the original; the last is the width of the bottleneck.
    * dropout: between the two convolutions of a level, 0.2 in the original.
    * batch_normalisation: after every 3x3 convolution; the original has none.
    * upsampled_first: retina-gnet: the U is between an up-sampling and a pooling, so that it works at
      twice the resolution. It has one more level, of half the first width.
    """
    convolution = partial(
        blocks.convolution, batch_normalisation=batch_normalisation, kernel_initializer="glorot_uniform"
    )

    def double_convolution(x: Tensor, width: int) -> Tensor:
        return convolution(Dropout(dropout)(convolution(x, width)), width)

    image, x = blocks.padded_input(2 ** (len(filters) - 1), channels)
    if upsampled_first:
        x = layers.UpSampling2D()(double_convolution(x, filters[0]))
        widths = (max(1, filters[0] // 2), *filters)
        x = layers.MaxPooling2D()(blocks.concatenating_u(x, widths, double_convolution))
        x = double_convolution(x, filters[0])
    else:
        x = blocks.concatenating_u(x, filters, double_convolution)
    probability = TwoClassHead(2, 1, dtype="float32", name=blocks.PROBABILITY_LAYER)(x)
    return blocks.cropped_model(image, probability, name)
