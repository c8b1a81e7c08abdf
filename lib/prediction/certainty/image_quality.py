"""Exposure and sharpness of an angiogram, as a note that says when a prediction is less reliable.

The limits lie outside the range of the 46 angiograms of huapu4/FFA and its image-level folders (512x512,
2026-11-26): median level 26 to 100, at most 2.1 % saturated pixels, sharpness .71 to 1.01, gradable share at
least .93. A Gaussian blur of 2 pixels at `REFERENCE_DIAMETER` gives all of them a sharpness below .58.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from lib.images.preprocessing import REFERENCE_DIAMETER, one_channel, resample

LOWEST_MEDIAN, LARGEST_SATURATED_SHARE = 25, 0.05
"""A darker image is "dark", one with more saturated pixels is "overexposed"."""

LOWEST_SHARPNESS = 0.65
"""A less sharp image is "blurred"."""

GRADABLE_LEVELS, LOWEST_GRADABLE_SHARE = (15, 235), 0.85
"""Lowest and highest local mean at which structures are visible; least share of the field of view with it."""

SATURATED_LEVEL = 250
LOCAL_SIGMA = 8.0
"""Pixels at `REFERENCE_DIAMETER`: the Gaussian of the local mean."""

RIM = 7
"""Pixels at `REFERENCE_DIAMETER`, beside the border of the field of view, that are not measured: filters mix
them with the surround."""


@dataclass(frozen=True)
class ImageQuality:
    """Measures inside the field of view, at a diameter of `REFERENCE_DIAMETER` pixels.

    Attributes:
        median_level: median grey level, 0 to 255.
        saturated_share: share of the pixels of at least `SATURATED_LEVEL`.
        sharpness: standard deviation of the structures of 1 to 2 pixels (difference of Gaussians) divided by
            that of 2 to 4 pixels; blur lowers it, contrast and brightness do not change it.
        gradable_share: share of the pixels whose local mean lies within `GRADABLE_LEVELS`.
    """

    median_level: float
    saturated_share: float
    sharpness: float
    gradable_share: float

    @property
    def faults(self) -> list[str]:
        """Any of "dark", "overexposed", "blurred" and "small gradable part"."""
        found = {
            "dark": self.median_level < LOWEST_MEDIAN,
            "overexposed": self.saturated_share > LARGEST_SATURATED_SHARE,
            "blurred": self.sharpness < LOWEST_SHARPNESS,
            "small gradable part": self.gradable_share < LOWEST_GRADABLE_SHARE,
        }
        return [name for name, applies in found.items() if applies]


def image_quality(original: np.ndarray, field_of_view: np.ndarray) -> ImageQuality:
    """Measure an image, (H, W) or (H, W, 3) uint8, inside its field of view, (H, W) uint8 not all 0."""
    left, top, width, height = cv2.boundingRect(field_of_view)
    field_of_view, original = (a[top : top + height, left : left + width] for a in (field_of_view, original))
    scale = REFERENCE_DIAMETER / max(width, height)
    shape = [max(1, round(side * scale)) for side in field_of_view.shape]
    grey = resample(one_channel(original, "grey").astype(np.float32), shape)
    share = resample(field_of_view.astype(np.float32), shape)
    whole = share >= min(0.999, share.max())
    inside = cv2.erode(whole.astype(np.uint8), np.ones((2 * RIM + 1, 2 * RIM + 1)), borderValue=0) > 0
    if not inside.any():  # a narrow field of view
        inside = whole
    fine, middle, coarse, local = (cv2.GaussianBlur(grey, (0, 0), sigma) for sigma in (1, 2, 4, LOCAL_SIGMA))
    coarser = float((middle - coarse)[inside].std())
    low, high = GRADABLE_LEVELS
    return ImageQuality(
        median_level=float(np.median(grey[inside])),
        saturated_share=float((grey[inside] >= SATURATED_LEVEL).mean()),
        sharpness=float((fine - middle)[inside].std()) / coarser if coarser else 0.0,
        gradable_share=float(((local[inside] >= low) & (local[inside] <= high)).mean()),
    )
