"""Detection of single areas: predicted and true connected components, matched one to one."""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

LEAST_IOU = 0.1
"""A matched pair has a greater intersection over union than this.

Metrics Reloaded advises a criterion as loose as this where the reference itself is uncertain: two graders of
non-perfusion agree with a Dice of .655, so that an IoU of .5 would measure outlines and not detection.
"""

SIZES = {"small": 0.0001, "medium": 0.001, "large": 0.01}
"""Least share of the field of view of an area of this size.

Smaller areas are left out, predicted and true ones: graders draw hardly any (1 of 461 in the FFA images),
and `min_area_px` drops them.
"""


@dataclass(frozen=True)
class AreaCounts:
    """Numbers of areas (8-connected pixels) of one image, by size in the order of `SIZES`.

    Attributes:
        found: true areas with a match.
        missed: true areas without a match.
        false: predicted areas without a match.
    """

    found: tuple[int, ...]
    missed: tuple[int, ...]
    false: tuple[int, ...]


def count_areas(predicted: np.ndarray, truth: np.ndarray, field_pixels: int) -> AreaCounts:
    """Match predicted with true areas one to one so that the sum of the IoU of all pairs is greatest.

    Args:
        predicted: (H, W) bool, False outside the field of view.
        truth: (H, W) bool, likewise.
        field_pixels: number of pixels of the field of view.
    """
    numbers, pixels = _labelled(predicted)
    true_numbers, true_pixels = _labelled(truth)
    size, true_size = (_sizes(of, field_pixels) for of in (pixels, true_pixels))
    both = predicted & truth
    codes = numbers[both] * np.int64(true_pixels.size) + true_numbers[both]
    codes, shared = np.unique(codes, return_counts=True)
    one, other = np.divmod(codes, true_pixels.size)
    iou = shared / (pixels[one] + true_pixels[other] - shared)
    near = (iou > LEAST_IOU) & (size[one] >= 0) & (true_size[other] >= 0)
    rows, row = np.unique(one[near], return_inverse=True)
    columns, column = np.unique(other[near], return_inverse=True)
    overlap = np.zeros((rows.size, columns.size))
    overlap[row, column] = iou[near]
    pairs = linear_sum_assignment(overlap, maximize=True)
    matched = overlap[pairs] > 0
    found = columns[pairs[1][matched]]
    return AreaCounts(
        _numbers(true_size[found]),
        _numbers(np.delete(true_size, found)),
        _numbers(np.delete(size, rows[pairs[0][matched]])),
    )


def _labelled(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number of the area of each pixel, (H, W) int32, and pixels of each area; 0 for the background."""
    _, numbers, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    return numbers, np.append(0, statistics[1:, cv2.CC_STAT_AREA])


def _sizes(pixels: np.ndarray, field_pixels: int) -> np.ndarray:
    """Index in `SIZES` of areas of so many pixels; -1: too small."""
    return np.searchsorted(list(SIZES.values()), pixels / max(1, field_pixels), side="right") - 1


def _numbers(size: np.ndarray) -> tuple[int, ...]:
    return tuple(np.bincount(size[size >= 0], minlength=len(SIZES)).tolist())
