"""Connectivity of predicted vessels: CAL (Gegúndez-Arias 2012) and clDice (Shit 2021).

A gap in a vessel changes the scores of pixels very little, but it changes these measures.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.morphology import disk, skeletonize

DILATION_RADIUS = 2
"""Pixels by which masks are dilated before they are compared; alpha and beta of the CAL paper."""


@dataclass(frozen=True)
class Connectivity:
    """Connectivity of the vessels of one image; None if the truth has no vessel.

    Attributes:
        components: number of 8-connected components of the prediction.
        components_truth: number of 8-connected components of the truth.
        connectivity: 1 - |difference of components| / pixels of the truth, at least 0 (C of CAL).
        area: overlap of each mask with the other one dilated, over the union of the masks (A of CAL).
        length: overlap of each skeleton with the other mask dilated, over the union of skeletons (L of CAL).
        cal: the product of these three.
        cl_dice: harmonic mean of the share of the predicted skeleton inside the truth and the share of the
            true skeleton inside the prediction.
    """

    components: int
    components_truth: int
    connectivity: float | None = None
    area: float | None = None
    length: float | None = None
    cal: float | None = None
    cl_dice: float | None = None


MEASURES = ("connectivity", "area", "length", "cal", "cl_dice")
"""The fields of `Connectivity` between 0 and 1."""


def measure_connectivity(predicted: np.ndarray, truth: np.ndarray) -> Connectivity:
    """Compare two vessel masks.

    CAL: Gegúndez-Arias, Aquino, Bravo, Marín, IEEE Trans. Med. Imaging 31(2), 2012. clDice: Shit et al.,
    CVPR 2021.

    Args:
        predicted: (H, W) bool, False outside the field of view.
        truth: (H, W) bool, likewise.
    """
    components, components_truth = (ndimage.label(mask, np.ones((3, 3)))[1] for mask in (predicted, truth))
    if not truth.any():
        return Connectivity(components, components_truth)
    dilated, dilated_truth = (
        ndimage.binary_dilation(mask, disk(DILATION_RADIUS)) for mask in (predicted, truth)
    )
    skeleton, skeleton_truth = skeletonize(predicted), skeletonize(truth)
    connectivity = 1 - min(1.0, abs(components - components_truth) / np.count_nonzero(truth))
    area = _share(dilated & truth | predicted & dilated_truth, predicted | truth)
    length = _share(skeleton & dilated_truth | dilated & skeleton_truth, skeleton | skeleton_truth)
    precision = _share(skeleton & truth, skeleton)
    sensitivity = _share(skeleton_truth & predicted, skeleton_truth)
    total = precision + sensitivity
    return Connectivity(
        components,
        components_truth,
        connectivity,
        area,
        length,
        cal=connectivity * area * length,
        cl_dice=2 * precision * sensitivity / total if total else 0.0,
    )


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    return float(np.count_nonzero(part) / max(1, int(np.count_nonzero(whole))))
