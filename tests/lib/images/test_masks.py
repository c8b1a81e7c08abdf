import numpy as np
import pytest
from scipy import ndimage

from lib.images.masks import binary_mask


@pytest.mark.parametrize("smallest", [0, 1, 2, 7, 10_000])
def test_only_areas_smaller_than_the_smallest_are_removed(smallest):
    probability = ndimage.gaussian_filter(np.random.default_rng(0).random((80, 90)), 1.5)
    threshold = float(np.quantile(probability, 0.7))
    found = binary_mask(probability, np.ones((80, 90), np.uint8), threshold, smallest)
    labels, count = ndimage.label(probability >= threshold, np.ones((3, 3)))
    sizes = ndimage.sum_labels(labels > 0, labels, range(count + 1))
    np.testing.assert_array_equal(found, (sizes >= max(1, smallest))[labels] & (labels > 0))


def test_a_mask_ends_with_the_field_of_view():
    field_of_view = np.ones((40, 60), np.uint8)
    field_of_view[:10] = 0
    assert binary_mask(np.ones((40, 60)), field_of_view, 0.5).sum() == 30 * 60
