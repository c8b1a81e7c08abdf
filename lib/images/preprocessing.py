"""Preprocessing of an image for the network: its size, and one or several input channels.

The steps of the channel `preprocessed` are those of retina-unet (its `lib/pre_processing.py`), which the
Enhance LadderNet paper uses. Each step works on truncated 8-bit levels, so that the pixel values are those of
retina-unet.

Resampling follows OpenCV and scikit-image: pixel i of a side of n pixels covers the part from i / n to
(i + 1) / n of the side, and its centre is at (i + .5) / n. So an image covers the same area at every size,
and resampling to another size and back shifts nothing.
"""

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from lib.configuration.sections import Preprocessing

GREY_WEIGHTS = (0.299, 0.587, 0.114)
"""Weights of red, green and blue: ITU-R BT.601."""

REFERENCE_DIAMETER = 512
"""Diameter of the field of view, in pixels, for which the following standard deviations hold."""

LOCAL_CONTRAST_SIGMA = 24.0
"""Pixels at `REFERENCE_DIAMETER`: the Gaussian of mean and standard deviation in `local_contrast`."""

TEXTURE_BLUR_SIGMA, TEXTURE_SIGMA = 2.0, 4.0
"""Pixels at `REFERENCE_DIAMETER`: the blur that `texture` subtracts, and the Gaussian of its mean square."""

LARGEST_TEXTURE = 32.0
"""A root mean square of so many grey levels, or more, is level 255 of `texture`."""

COLOURS = ("red", "green", "blue")

NEUTRAL_LEVELS = {"local_contrast": 128}
"""Level of a channel beyond the image, and of `local_contrast` outside the FOV; 0 for the other channels."""

SAME_SIZE = 0.02
"""An image whose size would change by at most this share is not resampled: it would be blurred."""

COLOUR_SATURATION = 0.25
"""Least median saturation of an image in colour."""

INTENSITIES = ("preprocessed", "grey", *COLOURS, "texture")
"""Channels that a change of exposure changes."""

Steps = list[tuple[str, np.ndarray]]


def preprocess(
    original: np.ndarray, field_of_view: np.ndarray, settings: Preprocessing, relative_angle: float = 1
) -> np.ndarray:
    """Resample one image and compute its input channels.

    Args:
        original: (H, W) or (H, W, 3) uint8.
        field_of_view: (H, W) uint8 in {0, 1}; for the size, and for statistics that are local.
        settings: section [preprocessing].
        relative_angle: angle of the field of view, as a multiple of the angle in the training. With
            `field_of_view_diameter`, a degree of the retina has as many pixels as in the training.

    Returns:
        (h, w, C) uint8 levels, h and w from `network_shape`, C as in `settings.channels`; they need a quarter
        of the memory of `network_input`.
    """
    steps_of_channels = _steps(original, field_of_view, settings, relative_angle)
    return np.stack([steps[-1][1] for steps in steps_of_channels], axis=-1)


def network_input(levels: np.ndarray) -> np.ndarray:
    """Convert levels (uint8, any shape) to float32 in [0, 1]."""
    return levels.astype(np.float32) / 255


def preprocessing_steps(original: np.ndarray, field_of_view: np.ndarray, settings: Preprocessing) -> Steps:
    """The image after each step of each channel: [(title, (h, w) uint8), ...]."""
    return [step for steps in _steps(original, field_of_view, settings, 1) for step in steps]


def neutral_levels(settings: Preprocessing) -> np.ndarray:
    """(C,) uint8: the level with which each channel is extended beyond the image."""
    return np.array([NEUTRAL_LEVELS.get(name, 0) for name in settings.channels], np.uint8)


def intensity_channels(settings: Preprocessing) -> np.ndarray:
    """(C,) bool: the channels in `INTENSITIES`."""
    return np.array([name in INTENSITIES for name in settings.channels])


def field_of_view_diameter(field_of_view: np.ndarray) -> int:
    """Diameter of a field of view (H, W): the larger side, in pixels, of the smallest rectangle around it.

    The image's larger side if the field of view is empty.
    """
    sides = cv2.boundingRect(field_of_view.astype(np.uint8))[2:]
    return max(sides) or max(field_of_view.shape)


def network_shape(
    field_of_view: np.ndarray, settings: Preprocessing, relative_angle: float = 1
) -> tuple[int, int]:
    """Height and width at which the network sees an image with the field of view (H, W).

    The stored size; or, with `field_of_view_diameter`, the size with this diameter, multiplied by
    `relative_angle`, and the same aspect, rounded to whole pixels. The stored size is kept if it would
    change by at most `SAME_SIZE`.
    """
    height, width = field_of_view.shape
    if not settings.field_of_view_diameter:
        return height, width
    scale = settings.field_of_view_diameter * relative_angle / field_of_view_diameter(field_of_view)
    if abs(scale - 1) <= SAME_SIZE:
        return height, width
    return max(1, round(height * scale)), max(1, round(width * scale))


def resample(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Resample (H, W) float to `shape`: the average over the area of a pixel to shrink, bilinear to enlarge.

    No value is outside the range of the image. An image that has the shape is returned itself.
    """
    if image.shape == tuple(shape):
        return image
    shrinks = math.prod(shape) < image.size
    resampled = cv2.resize(
        image, (shape[1], shape[0]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    return np.clip(resampled, image.min(), image.max())  # the area average of ones can be 1.0000001


def resample_mask(mask: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Resample (H, W) in {0, 1}, a truth or a field of view: 1 where `resample` gives at least .5; uint8."""
    return (resample(mask.astype(np.float32), shape) >= 0.5).astype(np.uint8)


def local_contrast(grey: np.ndarray, field_of_view: np.ndarray, relative_angle: float = 1) -> np.ndarray:
    """Grey minus its local mean, divided by its local standard deviation; see `normalise_locally`.

    The Gaussian has `LOCAL_CONTRAST_SIGMA`, scaled with the diameter of the field of view and divided by
    `relative_angle`.

    Returns:
        (H, W) float32: 0 to 255 for -3 to 3 standard deviations; the neutral level outside the field of view.
    """
    sigma = LOCAL_CONTRAST_SIGMA * _relative_diameter(field_of_view, relative_angle)
    # A Gaussian of at least 6 pixels in the reduced image: within 1 % of the one at full size.
    reduction = max(1, int(sigma / 6))
    levels = normalise_locally(grey.astype(np.float32), field_of_view, sigma, reduction)
    return np.where(field_of_view > 0, levels, np.float32(NEUTRAL_LEVELS["local_contrast"]))


def texture(grey: np.ndarray, field_of_view: np.ndarray, relative_angle: float = 1) -> np.ndarray:
    """Local root mean square of the fine structures of (H, W) grey: of grey minus its Gaussian blur.

    `TEXTURE_BLUR_SIGMA` and `TEXTURE_SIGMA` are scaled with the diameter of the field of view and divided by
    `relative_angle`; pixels outside the field of view have no weight.

    Returns:
        (H, W) float32 in [0, 255]: the root of the root mean square, 255 for `LARGEST_TEXTURE`, so that weak
        textures differ by several levels; 0 outside the field of view.
    """
    scale = _relative_diameter(field_of_view, relative_angle)
    grey, inside = grey.astype(np.float32), field_of_view.astype(np.float32)
    fine = grey - _local_mean(grey, inside, TEXTURE_BLUR_SIGMA * scale)
    mean_square = np.maximum(_local_mean(fine**2, inside, TEXTURE_SIGMA * scale), 0)
    return 255 * np.minimum(mean_square / np.float32(LARGEST_TEXTURE**2), 1) ** np.float32(0.25) * inside


def _relative_diameter(field_of_view: np.ndarray, relative_angle: float) -> float:
    """Diameter for the angle of the training, as a multiple of `REFERENCE_DIAMETER`."""
    return field_of_view_diameter(field_of_view) / relative_angle / REFERENCE_DIAMETER


_CHANNELS: dict[str, Callable[[np.ndarray, np.ndarray, float], np.ndarray]] = {
    "grey": lambda grey, field_of_view, relative_angle: grey,
    "local_contrast": local_contrast,
    "texture": texture,
}
"""Channels of one step, from the image in one channel and the field of view, both at the stored size."""


def _steps(
    original: np.ndarray, field_of_view: np.ndarray, settings: Preprocessing, relative_angle: float
) -> list[Steps]:
    """The steps of each channel; the last one is the channel."""
    grey = one_channel(original, settings.channel)
    shape = network_shape(field_of_view, settings, relative_angle)
    found = []
    for name in settings.channels:
        if name == "preprocessed":
            inside = resample_mask(field_of_view, shape)
            found.append(_steps_of_preprocessed(resample(grey, shape), inside, settings, relative_angle))
        else:
            # Fine structures must be measured before an image is reduced.
            measured = (
                one_channel(original, name)
                if name in COLOURS
                else _CHANNELS[name](grey, field_of_view, relative_angle)
            )
            levels = resample(measured, shape)
            found.append([(name.replace("_", " "), np.rint(levels).astype(np.uint8))])
    return found


def _steps_of_preprocessed(
    grey: np.ndarray, field_of_view: np.ndarray, settings: Preprocessing, relative_angle: float
) -> Steps:
    """Standardisation, local normalisation, CLAHE and gamma of (h, w) float64."""
    steps = [(settings.channel, grey)]
    if settings.standardise == "retina_unet":
        steps.append(("standardised", standardise(grey)))
    if settings.local_normalisation_sigma:
        sigma = settings.local_normalisation_sigma
        steps.append(("local normalisation", normalise_locally(steps[-1][1], field_of_view, sigma)))
    if settings.clahe_clip_limit:
        tiles = max(1, round(settings.clahe_tile_grid * relative_angle))
        clahe = cv2.createCLAHE(settings.clahe_clip_limit, (tiles, tiles))
        steps.append(("CLAHE", clahe.apply(steps[-1][1].astype(np.uint8))))
    exponent = settings.gamma if settings.gamma_exponent == "direct" else 1 / settings.gamma
    table = gamma_table(exponent, settings.gamma_epsilon)
    steps.append((f"gamma {settings.gamma:g}", cv2.LUT(steps[-1][1].astype(np.uint8), table)))
    return [(title, image.astype(np.uint8)) for title, image in steps]


def one_channel(original: np.ndarray, channel: str) -> np.ndarray:
    """Weighted grey or one channel of an image, (H, W) or (H, W, 3) uint8, as (H, W) float64 in [0, 255]."""
    if original.ndim == 2:
        return original.astype(np.float64)
    if (original == original[..., :1]).all():  # a grey image that is stored in RGB
        return original[..., 0].astype(np.float64)
    if channel == "grey":
        return original @ np.asarray(GREY_WEIGHTS)
    return original[..., COLOURS.index(channel)].astype(np.float64)


def is_in_colour(original: np.ndarray, field_of_view: np.ndarray) -> bool:
    """Whether an image, uint8 (H, W) or (H, W, 3), is in colour: a photograph, or a tinted picture.

    It is if its median saturation (HSV) inside the field of view (H, W) is at least `COLOUR_SATURATION`. The
    noise of JPEG colour channels is far below, a colour photograph of a retina far above.
    """
    inside = original[field_of_view > 0]
    if original.ndim == 2 or not inside.size:
        return False
    high, low = inside.max(axis=1).astype(np.float32), inside.min(axis=1)
    return bool(np.median((high - low) / np.maximum(high, 1)) >= COLOUR_SATURATION)


def standardise(grey: np.ndarray) -> np.ndarray:
    """Standardisation of retina-unet: (H, W) float64 scaled to [0, 255]; a constant image becomes 0.

    retina-unet first subtracts the mean of the data set and divides by its standard deviation. Then it
    scales each image from its minimum and maximum, which cancels both; so they are left out here.
    """
    low, high = grey.min(), grey.max()
    if high == low:
        return np.zeros_like(grey)
    return (grey - low) * 255 / (high - low)


def normalise_locally(
    grey: np.ndarray, field_of_view: np.ndarray, sigma: float, reduction: int = 1
) -> np.ndarray:
    """Subtract the local mean and divide by the local standard deviation; (H, W) float in [0, 255].

    Both are Gaussian-weighted (`sigma` in pixels) over the field of view only, so that the dark
    surround does not change the border. The output range is -3 to 3 standard deviations. The result has the
    dtype of `grey`. Mean and deviation are computed in an image that is reduced by `reduction`, which is
    faster for a large `sigma`.
    """
    inside = field_of_view.astype(grey.dtype)
    centred = grey - _local_mean(grey, inside, sigma, reduction)
    variance = _local_mean(centred**2, inside, sigma, reduction)
    deviation = np.sqrt(np.maximum(variance, 1.0))  # at least one level: do not amplify noise
    return np.clip(centred / deviation / 6 + 0.5, 0, 1) * 255 * inside


def _local_mean(image: np.ndarray, inside: np.ndarray, sigma: float, reduction: int = 1) -> np.ndarray:
    """Gaussian-weighted mean of the pixels around each one that are `inside`, all (H, W) of one dtype."""
    reduced = [-(-side // reduction) for side in image.shape]
    blurred, weight = (
        cv2.GaussianBlur(resample(a, reduced), (0, 0), sigma / reduction) for a in (image * inside, inside)
    )
    return resample(blurred / np.maximum(weight, 1e-6), image.shape)


def gamma_table(exponent: float, epsilon: float) -> np.ndarray:
    """(256,) uint8: 255 * (level / 255 + epsilon) ** exponent, limited to [0, 255], truncated.

    `epsilon` is the compensation term of formula (1) of the Enhance LadderNet paper.
    """
    levels = (np.arange(256) / 255 + epsilon) ** exponent * 255
    return np.minimum(levels, 255).astype(np.uint8)
