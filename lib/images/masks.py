"""Probabilities to a mask: threshold, field of view, smallest area."""

import cv2
import numpy as np


def binary_mask(
    probability: np.ndarray, field_of_view: np.ndarray, threshold: float, min_area_px: int = 0
) -> np.ndarray:
    """(H, W) bool: at least `threshold`, in the field of view, in areas of at least `min_area_px` pixels."""
    return without_small_areas((probability >= threshold) & (field_of_view > 0), min_area_px)


def without_small_areas(mask: np.ndarray, smallest: int) -> np.ndarray:
    """The mask, (H, W) bool, without areas (8-connected pixels) of fewer than `smallest` pixels."""
    if smallest <= 1:
        return mask
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    large = statistics[:, cv2.CC_STAT_AREA] >= smallest
    large[0] = False
    return large[labels]
