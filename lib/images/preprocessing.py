"""From an angiogram as photographed to what the network sees: grey, standardised, CLAHE, gamma.

The chain is retina-unet's (`lib/pre_processing.py` there), which the Enhance LadderNet paper follows;
each step works on 8-bit levels, truncated as there, so that the original's pixel values come out.
"""

import cv2
import numpy as np

from lib.configuration.sections import Preprocessing

GREY_WEIGHTS = (0.299, 0.587, 0.114)
"""Of red, green and blue: ITU-R BT.601."""


def preprocess(
    original: np.ndarray, field_of_view: np.ndarray, settings: Preprocessing
) -> np.ndarray:
    """What the network sees of one image.

    Args:
        original: (H, W) or (H, W, 3) uint8.
        field_of_view: (H, W) uint8 in {0, 1}; used by the local normalisation alone.
        settings: section [preprocessing].

    Returns:
        (H, W) uint8 levels: a quarter of the memory of what `network_input` makes of them.
    """
    return preprocessing_steps(original, field_of_view, settings)[-1][1]


def network_input(levels: np.ndarray) -> np.ndarray:
    """Levels (uint8, any shape) as float32 in [0, 1]."""
    return levels.astype(np.float32) / 255


def preprocessing_steps(
    original: np.ndarray, field_of_view: np.ndarray, settings: Preprocessing
) -> list[tuple[str, np.ndarray]]:
    """The image after each step that the settings switch on: [(title, (H, W) uint8), ...]."""
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
        steps.append(("CLAHE", clahe.apply(_levels(steps[-1][1]))))
    exponent = settings.gamma if settings.gamma_exponent == "direct" else 1 / settings.gamma
    table = gamma_table(exponent, settings.gamma_epsilon)
    steps.append((f"gamma {settings.gamma:g}", cv2.LUT(_levels(steps[-1][1]), table)))
    return [(title, _levels(image)) for title, image in steps]


def one_channel(original: np.ndarray, channel: str) -> np.ndarray:
    """(H, W) float64 in [0, 255]: the weighted grey of an RGB image, or one of its channels."""
    if original.ndim == 2:
        return original.astype(np.float64)
    if (original == original[..., :1]).all():  # a grey image stored among coloured ones
        return original[..., 0].astype(np.float64)
    if channel == "grey":
        return original @ np.asarray(GREY_WEIGHTS)
    return original[..., ("red", "green", "blue").index(channel)].astype(np.float64)


def standardise(grey: np.ndarray) -> np.ndarray:
    """retina-unet's standardisation: stretched to [0, 255] (H, W) float64; a constant image gives 0.

    The original first subtracts the data set's mean and divides by its standard deviation; the
    stretch of each image from its minimum to its maximum that follows cancels both, whatever the set.
    """
    low, high = grey.min(), grey.max()
    if high == low:
        return np.zeros_like(grey)
    return (grey - low) * 255 / (high - low)


def normalise_locally(grey: np.ndarray, field_of_view: np.ndarray, sigma: float) -> np.ndarray:
    """Subtract the local mean, divide by the local standard deviation; (H, W) float64 in [0, 255].

    Mean and deviation are Gaussian-weighted over the field of view alone (`sigma` in pixels), so that
    the dark surround does not brighten its border. Three deviations to either side span the range.
    """
    inside = field_of_view.astype(np.float64)

    def local_mean(image: np.ndarray) -> np.ndarray:
        blurred, weight = (cv2.GaussianBlur(a, (0, 0), sigma) for a in (image * inside, inside))
        return blurred / np.maximum(weight, 1e-6)

    centred = grey - local_mean(grey)
    deviation = np.sqrt(np.maximum(local_mean(centred**2), 1.0))  # one level: flat areas stay flat
    return np.clip(centred / deviation / 6 + 0.5, 0, 1) * 255 * inside


def gamma_table(exponent: float, epsilon: float) -> np.ndarray:
    """(256,) uint8: 255 * (level / 255 + epsilon) ** exponent, held within [0, 255], truncated.

    `epsilon` is the compensation of formula (1) of the Enhance LadderNet paper.
    """
    levels = (np.arange(256) / 255 + epsilon) ** exponent * 255
    return np.minimum(levels, 255).astype(np.uint8)


def _levels(image: np.ndarray) -> np.ndarray:
    return image.astype(np.uint8)
