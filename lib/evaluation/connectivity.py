"""How well a predicted vessel tree hangs together: CAL (Gegúndez-Arias 2012) and clDice (Shit 2021).

Pixel scores hardly notice a vessel that is cut in two; these do.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.morphology import disk, skeletonize

REACH = 2
"""Pixels by which masks are dilated before they are compared; alpha and beta of the CAL paper."""


@dataclass(frozen=True)
class Connectivity:
    """Of one image; what is not defined is `None`.

    Attributes:
        components: of the predicted vessels, 8-connected.
        components_truth: of the truth.
        connectivity: 1 - |difference of components| / pixels of the truth, at least 0 (C of CAL).
        area: overlap of the masks, each dilated in turn, over their union (A).
        length: overlap of the skeletons with the dilated masks, over the skeletons' union (L).
        cal: the product of these three.
        cl_dice: harmonic mean of the share of the predicted skeleton within the truth and of the true
            skeleton within the prediction.
    """

    components: int
    components_truth: int
    connectivity: float | None
    area: float | None
    length: float | None
    cal: float | None
    cl_dice: float | None


MEASURES = ("connectivity", "area", "length", "cal", "cl_dice")
"""The fields of `Connectivity` between 0 and 1."""


def measure_connectivity(predicted: np.ndarray, truth: np.ndarray) -> Connectivity:
    """Compare two vessel masks.

    CAL: Gegúndez-Arias, Aquino, Bravo, Marín, IEEE Trans. Med. Imaging 31(2), 2012. clDice: Shit et al.,
    CVPR 2021.

    Args:
        predicted: (H, W) bool, nothing outside the field of view.
        truth: likewise.
    """
    components, components_truth = (
        ndimage.label(mask, np.ones((3, 3)))[1] for mask in (predicted, truth)
    )
    counts = {"components": components, "components_truth": components_truth}
    if not truth.any():
        return Connectivity(**counts, **dict.fromkeys(MEASURES))
    wide, wide_truth = (ndimage.binary_dilation(m, disk(REACH)) for m in (predicted, truth))
    thin, thin_truth = skeletonize(predicted), skeletonize(truth)
    connectivity = 1 - min(1.0, abs(components - components_truth) / np.count_nonzero(truth))
    area = _overlap(wide & truth | predicted & wide_truth, predicted | truth)
    length = _overlap(thin & wide_truth | wide & thin_truth, thin | thin_truth)
    precision = np.count_nonzero(thin & truth) / max(1, np.count_nonzero(thin))
    sensitivity = np.count_nonzero(thin_truth & predicted) / max(1, np.count_nonzero(thin_truth))
    total = precision + sensitivity
    return Connectivity(
        **counts,
        connectivity=connectivity,
        area=area,
        length=length,
        cal=connectivity * area * length,
        cl_dice=2 * precision * sensitivity / total if total else 0.0,
    )


def _overlap(common: np.ndarray, union: np.ndarray) -> float:
    return float(np.count_nonzero(common) / np.count_nonzero(union))
