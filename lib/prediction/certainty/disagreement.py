"""Disagreement between the members of an ensemble and the mirror images of test-time augmentation."""

import numpy as np

from lib.images.masks import binary_mask
from lib.images.preprocessing import resample, resample_mask
from lib.prediction.measurement import Measurement
from lib.prediction.sliding_window import with_logit_shift

RANGE_DEVIATIONS = 3.0
"""So many standard deviations below and above the probability give the range of the share: it holds the truth
of 59 % of the angiograms of the cross-validation for the mean of two networks, as in ONNX, and of 69 % for an
ensemble (docs/results/certainty.md)."""

DISAGREEMENT = "disagreement"
"""Column with the mean disagreement."""

LARGEST = 0.5
"""The largest standard deviation of numbers between 0 and 1: level 255 of the picture."""


def disagreement_map(views: np.ndarray, field_of_view: np.ndarray, logit_shift: float) -> np.ndarray | None:
    """Standard deviation of the probability of each pixel over all views.

    It is computed at the size at which the network sees the image, after the logit shift of each view.

    Args:
        views: (V, h, w) float32, of `lib.prediction.sliding_window.predict_views`.
        field_of_view: (H, W) uint8 in {0, 1}, of the stored size.
        logit_shift: as in section [testing settings].

    Returns:
        (H, W) float32 between 0 and `LARGEST`, 0 outside the field of view; None if there is only one view.
    """
    if len(views) < 2:
        return None
    inside = resample_mask(field_of_view, views.shape[1:])
    total, squares = np.zeros((2, *views.shape[1:]))  # sums: the shifted views together may need gigabytes
    for view in views:
        shifted = with_logit_shift(view, inside, logit_shift)
        total += shifted
        squares += np.square(shifted, dtype=np.float64)
    variance = squares / len(views) - (total / len(views)) ** 2
    deviation = np.sqrt(np.maximum(variance, 0)).astype(np.float32)
    return resample(deviation, field_of_view.shape) * field_of_view


def disagreement_picture(disagreement: np.ndarray) -> np.ndarray:
    """A disagreement map as grey levels: (H, W) uint8, 0 for 0 and 255 for `LARGEST`."""
    return np.rint(disagreement * (255 / LARGEST)).astype(np.uint8)


def uncertainty(
    probability: np.ndarray,
    disagreement: np.ndarray | None,
    field_of_view: np.ndarray,
    threshold: float,
    min_area_px: int,
    share: str = "ischaemic_index",
) -> Measurement:
    """The range of the outlined share of the field of view, and the mean disagreement of an image.

    The range is from the mask of the probability minus `RANGE_DEVIATIONS` times the disagreement to that of
    the probability plus it. The mean is over the pixels whose probability plus disagreement is at least the
    threshold, the outlined ones and those nearly outlined; 0 if there are none.

    Args:
        probability: (H, W) float32.
        disagreement: (H, W) float32, of `disagreement_map`.
        field_of_view: (H, W) uint8 in {0, 1}, with at least one pixel.
        threshold: as for the mask.
        min_area_px: as for the mask.
        share: name of the column with the share, `TrainedNetwork.share_column`.

    Returns:
        The columns `<share>_low`, `<share>_high` and `disagreement`; all None if `disagreement` is None.
    """
    low, high = f"{share}_low", f"{share}_high"
    if disagreement is None:
        return {low: None, high: None, DISAGREEMENT: None}
    inside = field_of_view > 0

    def share_at(deviations: float) -> float:
        changed = probability + deviations * disagreement
        return float(binary_mask(changed, field_of_view, threshold, min_area_px)[inside].mean())

    chosen = disagreement[inside & (probability + disagreement >= threshold)]
    return {
        low: share_at(-RANGE_DEVIATIONS),
        high: share_at(RANGE_DEVIATIONS),
        DISAGREEMENT: float(chosen.mean()) if chosen.size else 0.0,
    }
