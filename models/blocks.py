"""Blocks that the networks share.

Feature maps are (N, H, W, C) in the compute dtype. `keras.models.model_from_json` finds our layers only after
this module was imported.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers, ops

from models import Tensor
from models.dropout import SpatialDropout
from models.normalisation import BatchNormalization

if keras.config.backend() == "tensorflow":
    from models import tensorflow_operations

# With Keras' default, 0.99, the statistics are useful in validation only after hundreds of steps.
_NORMALISATION_MOMENTUM = 0.9

# Variance times fan-in: the default of the framework that LadderNet's authors used. With 2 (He et al.) a
# residual branch of two convolutions doubles the variance, and after 18 blocks the sigmoid is saturated.
_SHARED_VARIANCE = 1 / 3


PROBABILITY_LAYER = "probability"
"""Name of the layer that computes the probability, in every network."""

ROUGH_MAP_LAYER = "rough"
"""Name of the layer that computes the rough map of a cascade, or its logit (a layer without activation)."""


@keras.saving.register_keras_serializable(package="retina")
class MirrorPadding(layers.Layer):
    """Extend (N, H, W, C) at the bottom and the right until `multiple` divides H and W.

    The image is mirrored at its edge, edge pixel included, and several times if it is small. Rows and columns
    are gathered, because `keras.ops.pad` cannot mirror more pixels than the image has.
    """

    def __init__(self, multiple: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.multiple = multiple

    def call(self, image: Tensor) -> Tensor:
        """Return (N, H', W', C) with H' and W' the next multiples."""
        for axis in (1, 2):
            size = ops.shape(image)[axis]
            position = ops.arange(self._extended(size)) % (2 * size)
            image = ops.take(image, ops.minimum(position, 2 * size - 1 - position), axis=axis)
        return image

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the padded shape; an unknown size stays unknown."""
        batch, height, width, channels = input_shape
        sizes = (None if size is None else self._extended(size) for size in (height, width))
        return (batch, *sizes, channels)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "multiple": self.multiple}

    def _extended(self, size: Any) -> Any:
        # The usual -(-size // multiple) is wrong here: ONNX rounds a negative quotient towards zero.
        return (size + self.multiple - 1) // self.multiple * self.multiple


@keras.saving.register_keras_serializable(package="retina")
class CropToImage(layers.Layer):
    """Crop a feature map to the size of an image: [(N, H', W', C), (N, H, W, any)] to (N, H, W, C)."""

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the top left part of the feature map, in the size of the image."""
        feature_map, image = inputs
        _, height, width, _ = ops.shape(image)
        return feature_map[:, :height, :width]

    def compute_output_shape(self, input_shape: Sequence[Sequence[int | None]]) -> tuple[int | None, ...]:
        """Return (N, H, W, C)."""
        feature_map, image = input_shape
        return (feature_map[0], image[1], image[2], feature_map[3])


@keras.saving.register_keras_serializable(package="retina")
class LeakyReLU(layers.LeakyReLU):
    """Leaky ReLU; in training with TensorFlow as a maximum, for slopes below 1.

    TensorFlow 2.21 with oneDNN prints an error, and does not optimise the graph, if it finds a convolution, a
    leaky ReLU and its gradient in it.
    """

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        """Return x where it is positive, and `negative_slope` times x elsewhere; same shape."""
        if training and keras.config.backend() == "tensorflow":
            return tensorflow_operations.leaky_relu(x, self.negative_slope)
        return super().call(x)


@keras.saving.register_keras_serializable(package="retina")
class CBAM(layers.Layer):
    """Convolutional block attention module (Woo et al., ECCV 2018): channel, then spatial attention.

    Channel attention: the global average and the global maximum pass through one shared perceptron with
    max(1, C // reduction_ratio) hidden units; the sigmoid of their sum scales the channels.
    Spatial attention: the sigmoid of a 7x7 convolution of the mean and the maximum over the channels scales
    the pixels.
    """

    def __init__(self, reduction_ratio: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reduction_ratio = reduction_ratio

    def build(self, input_shape: tuple[int, ...]) -> None:
        """Create the perceptron and the convolution for C channels."""
        channels = input_shape[-1]
        units = max(1, channels // self.reduction_ratio)
        policy = self.dtype_policy
        self.hidden = layers.Dense(units, activation="relu", kernel_initializer="he_normal", dtype=policy)
        self.channel_logits = layers.Dense(channels, dtype=policy)
        self.spatial_gate = layers.Conv2D(
            1, 7, padding="same", activation="sigmoid", dtype=policy, name="spatial_gate"
        )
        self.hidden.build((None, channels))
        self.channel_logits.build((None, units))
        self.spatial_gate.build((None, None, None, 2))

    def call(self, x: Tensor) -> Tensor:
        """Return x, scaled by both attentions, in the same shape."""
        pooled = (ops.mean(x, axis=(1, 2)), ops.max(x, axis=(1, 2)))
        average, maximum = (self.channel_logits(self.hidden(values)) for values in pooled)
        x = x * ops.sigmoid(average + maximum)[:, None, None, :]
        planes = [ops.mean(x, axis=-1, keepdims=True), ops.max(x, axis=-1, keepdims=True)]
        return x * self.spatial_gate(ops.concatenate(planes, axis=-1))

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Sequence[int | None]:
        """Return the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "reduction_ratio": self.reduction_ratio}


def padded_input(multiple: int, channels: int) -> tuple[Tensor, Tensor]:
    """Return the input (N, H, W, channels), and the input padded so that `multiple` divides H and W."""
    image = keras.Input((None, None, channels), name="image")
    return image, MirrorPadding(multiple, name="padding")(image)


def segmentation_model(image: Tensor, features: Tensor, name: str, *, bias: float = 0.0) -> keras.Model:
    """Complete a network: 1x1 convolution, sigmoid, crop to the image; float32 under any precision.

    `bias` is the logit that the network begins with, about that of the share of the foreground
    (Lin et al., Focal Loss, ICCV 2017).
    """
    probability = layers.Conv2D(
        1,
        1,
        activation="sigmoid",
        bias_initializer=keras.initializers.Constant(bias),
        dtype="float32",
        name=PROBABILITY_LAYER,
    )
    return cropped_model(image, probability(features), name)


def cropped_model(image: Tensor, probability: Tensor, name: str) -> keras.Model:
    """Complete a network that computes its probability itself: crop to the image."""
    cropped = CropToImage(dtype="float32", name="crop")([probability, image])
    return keras.Model(image, cropped, name=name)


def auxiliary_map(model: keras.Model) -> Tensor:
    """A second map (N, H, W, 1) float32, for a training with a loss on it: 1x1 convolution, sigmoid, crop.

    Its features are those from which `model`, any of our networks, computes its probability.
    """
    features = model.get_layer(PROBABILITY_LAYER).input
    auxiliary = layers.Conv2D(1, 1, activation="sigmoid", dtype="float32", name="auxiliary")(features)
    return CropToImage(dtype="float32")([auxiliary, model.input])


def rough_map(model: keras.Model) -> Tensor:
    """The rough map of a cascade, (N, H, W, 1) float32, for a training with a loss on it.

    Raises:
        ValueError: the model has no rough map.
    """
    layer = model.get_layer(ROUGH_MAP_LAYER)
    rough = layer.output
    if layer.activation is keras.activations.linear:
        rough = layers.Activation("sigmoid", dtype="float32")(rough)
    return CropToImage(dtype="float32")([rough, model.input])


def convolution(x: Tensor, filters: int, *, batch_normalisation: bool, **kwargs: Any) -> Tensor:
    """3x3 convolution, batch normalisation if `batch_normalisation`, ReLU."""
    if not batch_normalisation:
        return bare_convolution(filters, activation="relu", **kwargs)(x)
    x = bare_convolution(filters, use_bias=False, **kwargs)(x)
    return layers.ReLU()(normalised(x))


def bare_convolution(
    filters: int, *, kernel_initializer: str | keras.Initializer = "he_normal", **kwargs: Any
) -> layers.Conv2D:
    """3x3 convolution layer, by default initialised after He et al. (ICCV 2015)."""
    return layers.Conv2D(filters, 3, padding="same", kernel_initializer=kernel_initializer, **kwargs)


def normalised(x: Tensor) -> Tensor:
    """Batch normalisation of x."""
    return BatchNormalization(momentum=_NORMALISATION_MOMENTUM)(x)


def shared_block(x: Tensor, *, dropout: float, batch_normalisation: bool) -> Tensor:
    """Shared-weights residual block of LadderNet (Zhuang, arXiv 1810.07810), with as many channels as x.

    One 3x3 convolution is applied twice, with dropout of whole channels in between. Each application has
    its own batch normalisation, since their inputs have different distributions.
    """
    initializer = keras.initializers.VarianceScaling(_SHARED_VARIANCE, distribution="uniform")
    shared = bare_convolution(x.shape[-1], use_bias=not batch_normalisation, kernel_initializer=initializer)
    normalise: Callable[[Tensor], Tensor] = normalised if batch_normalisation else lambda y: y
    residual = layers.ReLU()(normalise(shared(x)))
    residual = SpatialDropout(dropout)(residual)
    residual = normalise(shared(residual))
    return layers.ReLU()(layers.Add()([x, residual]))


def concatenating_u(
    x: Tensor,
    filters: Sequence[int],
    block: Callable[[Tensor, int], Tensor],
    after_bottleneck: Callable[[Tensor], Tensor] = lambda x: x,
) -> Tensor:
    """One U with max pooling and skip connections that concatenate.

    Args:
        x: features whose H and W can be halved `len(filters) - 1` times.
        filters: widths of the levels, from full resolution down; the last is the width of the bottleneck.
        block: computes the features of a level in a width.
        after_bottleneck: is applied to the features of the bottleneck.
    """
    *levels, bottleneck = filters
    skips = []
    for width in levels:
        skips.append(block(x, width))
        x = layers.MaxPooling2D()(skips[-1])
    x = after_bottleneck(block(x, bottleneck))
    for width, skip in zip(reversed(levels), reversed(skips), strict=True):
        x = block(layers.Concatenate()([layers.UpSampling2D()(x), skip]), width)
    return x


def vgg_block(x: Tensor, filters: int, *, batch_normalisation: bool) -> tuple[Tensor, Tensor]:
    """Two 3x3 convolutions of equal width, then 2x2 max pooling (Simonyan, Zisserman, ICLR 2015).

    Returns:
        The features before pooling, for the skip connection, and the features after it.
    """
    for _ in range(2):
        x = convolution(x, filters, batch_normalisation=batch_normalisation)
    return x, layers.MaxPooling2D()(x)
