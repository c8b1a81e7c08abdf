import warnings

import numpy as np
import pytest
from scipy import ndimage

from lib.evaluation.measures.boundary import TOLERANCES_PX, boundary_agreement

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import surface_distance


def blobs(seed, share):
    noise = np.random.default_rng(seed).standard_normal((71, 90))
    smooth = ndimage.gaussian_filter(noise, seed % 4)
    return smooth > np.quantile(smooth, 1 - share)


def one_pixel(row, column):
    mask = np.zeros((71, 90), bool)
    mask[row, column] = True
    return mask


FULL = np.ones((71, 90), bool)
MASKS = [
    *[(blobs(seed, 0.05 * (1 + seed)), blobs(seed + 20, 0.2)) for seed in range(12)],
    *[(blobs(seed, 0.3), np.roll(blobs(seed, 0.3), seed, axis=1)) for seed in range(8)],
    (one_pixel(0, 0), one_pixel(70, 89)),
    (one_pixel(3, 4), one_pixel(3, 4)),
    (one_pixel(6, 10), one_pixel(10, 13)),  # exactly 5 pixels apart
    (FULL, one_pixel(35, 40)),
    (FULL, FULL),
    (blobs(3, 0.2), ~blobs(3, 0.2)),
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("number", range(len(MASKS)))
def test_boundaries_are_compared_as_by_surface_distance(number):
    predicted, truth = MASKS[number]
    distances = surface_distance.compute_surface_distances(truth, predicted, (1, 1))
    found = boundary_agreement(predicted, truth)
    for tolerance, nsd in zip(TOLERANCES_PX, found.nsd, strict=True):
        expected = surface_distance.compute_surface_dice_at_tolerance(distances, tolerance)
        assert nsd == pytest.approx(expected, abs=1e-7)
    assert found.hd95 == pytest.approx(surface_distance.compute_robust_hausdorff(distances, 95), abs=1e-4)


def test_an_empty_mask_has_the_worst_values_and_two_have_none():
    empty = np.zeros((30, 40), bool)
    some = empty.copy()
    some[3:5, 7:9] = True
    for predicted, truth in ((empty, some), (some, empty)):
        found = boundary_agreement(predicted, truth)
        assert (found.nsd, found.hd95) == ((0, 0, 0), 50)
    found = boundary_agreement(empty, empty)
    assert (found.nsd, found.hd95) == ((None, None, None), None)
