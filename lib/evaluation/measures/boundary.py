"""Agreement of the boundaries of two masks: normalised surface Dice (NSD) and HD95.

Definitions as in the package `surface-distance` of DeepMind (Nikolov et al., J. Med. Internet Res. 23(7),
2021), with which the tests compare. The package itself does not run on empty masks under NumPy 2.
"""

from dataclasses import dataclass

import cv2
import numpy as np

TOLERANCES_PX = (2, 5, 10)
"""Distances up to which two boundaries agree, in pixels of the scored image."""

_CUT, _DIAGONAL = 0.5**0.5, 2**0.5
_LENGTHS = np.array(
    [0, _CUT, _CUT, 1, _CUT, 1, _DIAGONAL, _CUT, _CUT, _DIAGONAL, 1, _CUT, 1, _CUT, _CUT, 0], np.float32
)
"""Length in pixels of the boundary in a square of 2x2 pixels, by its pixels as four bits."""


@dataclass(frozen=True)
class BoundaryAgreement:
    """Agreement of the boundaries of one image.

    Attributes:
        nsd: for each of `TOLERANCES_PX`, the share of both boundaries that is at most so far from the other
            one, in [0, 1]; 0 if one mask is empty, None if both are.
        hd95: the greater of the two 95th percentiles of the distances, pixels; the diagonal of the image if
            one mask is empty (so that a missed image does not improve a mean), None if both are.
    """

    nsd: tuple[float | None, ...]
    hd95: float | None


def boundary_agreement(predicted: np.ndarray, truth: np.ndarray) -> BoundaryAgreement:
    """Compare the boundaries of two masks, both (H, W) bool; the edge of the image is boundary too."""
    if not (predicted.any() or truth.any()):
        return BoundaryAgreement((None,) * len(TOLERANCES_PX), None)
    if not (predicted.any() and truth.any()):
        return BoundaryAgreement((0.0,) * len(TOLERANCES_PX), float(np.hypot(*truth.shape)))
    x, y, width, height = cv2.boundingRect((predicted | truth).astype(np.uint8))
    crop = np.s_[y : y + height, x : x + width]
    lengths = [_boundary(mask[crop]) for mask in (predicted, truth)]
    measured = [_distances(*pair) for pair in (lengths, lengths[::-1])]
    distance, length = (np.concatenate(both) for both in zip(*measured, strict=True))
    return BoundaryAgreement(
        tuple(float(length[distance <= most].sum() / length.sum()) for most in TOLERANCES_PX),
        max(_percentile_95(*one) for one in measured),
    )


def _boundary(mask: np.ndarray) -> np.ndarray:
    """Length of the boundary at each corner of the pixels of (H, W), in pixels: (H + 1, W + 1) float32."""
    bits = np.pad(mask.astype(np.uint8), 1)
    return _LENGTHS[8 * bits[:-1, :-1] + 4 * bits[:-1, 1:] + 2 * bits[1:, :-1] + bits[1:, 1:]]


def _distances(of: np.ndarray, to: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each element of one boundary, its distance to the other boundary, and its length."""
    away = cv2.distanceTransform((to == 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return away[of > 0], of[of > 0].astype(np.float64)


def _percentile_95(distance: np.ndarray, length: np.ndarray) -> float:
    order = np.argsort(distance, kind="stable")
    reached = np.cumsum(length[order]) / length.sum()
    return float(distance[order][min(np.searchsorted(reached, 0.95), reached.size - 1)])
