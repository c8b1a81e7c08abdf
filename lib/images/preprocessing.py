"""Preprocessing of an image for the network: grey, standardisation, CLAHE, gamma.

The steps are those of retina-unet (its `lib/pre_processing.py`), which the Enhance LadderNet paper
uses. Each step works on truncated 8-bit levels, so that the pixel values are those of retina-unet.
"""

import cv2
import numpy as np

from lib.configuration.sections import Preprocessing

GREY_WEIGHTS = (0.299, 0.587, 0.114)
"""Weights of red, green and blue: ITU-R BT.601."""


def preprocess(original: np.ndarray, field_of_view: np.ndarray, settings: Preprocessing) -> np.ndarray:
    """Apply all preprocessing steps to one image.

    Args:
        original: (H, W) or (H, W, 3) uint8.
        field_of_view: (H, W) uint8 in {0, 1}; only local normalisation uses it.
        settings: section [preprocessing].

    Returns:
        (H, W) uint8 levels; they need a quarter of the memory of `network_input`.
    """
    return preprocessing_steps(original, field_of_view, settings)[-1][1]


def network_input(levels: np.ndarray) -> np.ndarray:
    """Convert levels (uint8, any shape) to float32 in [0, 1]."""
    return levels.astype(np.float32) / 255


def preprocessing_steps(
    original: np.ndarray, field_of_view: np.ndarray, settings: Preprocessing
) -> list[tuple[str, np.ndarray]]:
    """The image after each step that the settings enable: [(title, (H, W) uint8), ...]."""
    grey = one_channel(original, settings.channel)
    steps = [(settings.channel, grey)]
    if settings.standardise == "retina_unet":
        steps.append(("standardised", standardise(grey)))
    if settings.local_normalisation_sigma:
        sigma = settings.local_normalisation_sigma
        steps.append(("local normalisation", normalise_locally(steps[-1][1], field_of_view, sigma)))
    if settings.clahe_clip_limit:
        tiles = (settings.clahe_tile_grid, settings.clahe_tile_grid)
        clahe = cv2.createCLAHE(settings.clahe_clip_limit, tiles)
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
    return original[..., ("red", "green", "blue").index(channel)].astype(np.float64)


def standardise(grey: np.ndarray) -> np.ndarray:
    """Standardisation of retina-unet: (H, W) float64 scaled to [0, 255]; a constant image becomes 0.

    retina-unet first subtracts the mean of the data set and divides by its standard deviation. Then it
    scales each image from its minimum and maximum, which cancels both; so they are left out here.
    """
    low, high = grey.min(), grey.max()
    if high == low:
        return np.zeros_like(grey)
    return (grey - low) * 255 / (high - low)


def normalise_locally(grey: np.ndarray, field_of_view: np.ndarray, sigma: float) -> np.ndarray:
    """Subtract the local mean and divide by the local standard deviation; (H, W) float64 in [0, 255].

    Both are Gaussian-weighted (`sigma` in pixels) over the field of view only, so that the dark
    surround does not change the border. The output range is -3 to 3 standard deviations.
    """
    inside = field_of_view.astype(np.float64)

    def local_mean(image: np.ndarray) -> np.ndarray:
        blurred, weight = (cv2.GaussianBlur(a, (0, 0), sigma) for a in (image * inside, inside))
        return blurred / np.maximum(weight, 1e-6)

    centred = grey - local_mean(grey)
    deviation = np.sqrt(np.maximum(local_mean(centred**2), 1.0))  # at least one level: do not amplify noise
    return np.clip(centred / deviation / 6 + 0.5, 0, 1) * 255 * inside


def gamma_table(exponent: float, epsilon: float) -> np.ndarray:
    """(256,) uint8: 255 * (level / 255 + epsilon) ** exponent, limited to [0, 255], truncated.

    `epsilon` is the compensation term of formula (1) of the Enhance LadderNet paper.
    """
    levels = (np.arange(256) / 255 + epsilon) ** exponent * 255
    return np.minimum(levels, 255).astype(np.uint8)
