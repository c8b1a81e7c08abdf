import itertools

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label

from lib.evaluation.measures.areas import LEAST_IOU, SIZES, AreaCounts, count_areas

FIELD = 1000
"""Pixels: an area of one pixel is medium, one of ten is large."""


def regions(mask, field_pixels):
    """Each area that is large enough, as a set of pixels, with its size."""
    labels = label(mask, connectivity=2)
    found = [frozenset(zip(*np.nonzero(labels == n), strict=True)) for n in range(1, labels.max() + 1)]
    sizes = [[i for i, share in enumerate(SIZES.values()) if len(r) / field_pixels >= share] for r in found]
    return [(region, size[-1]) for region, size in zip(found, sizes, strict=True) if size]


def by_hand(predicted, truth, field_pixels):
    """Try every one-to-one assignment."""
    ours, theirs = regions(predicted, field_pixels), regions(truth, field_pixels)
    places = [*range(len(theirs)), *[None] * len(ours)]
    best, most = (), -1.0
    for chosen in set(itertools.permutations(places, len(ours))):
        pairs = [(a, b) for a, b in enumerate(chosen) if b is not None]
        iou = {(a, b): len(ours[a][0] & theirs[b][0]) / len(ours[a][0] | theirs[b][0]) for a, b in pairs}
        kept = {pair: value for pair, value in iou.items() if value > LEAST_IOU}
        if sum(kept.values()) > most:
            best, most = tuple(kept), sum(kept.values())
    numbers = np.zeros((3, len(SIZES)), int)
    for b, (_, size) in enumerate(theirs):
        numbers[0 if b in {pair[1] for pair in best} else 1, size] += 1
    for a, (_, size) in enumerate(ours):
        numbers[2, size] += a not in {pair[0] for pair in best}
    return AreaCounts(*(tuple(row.tolist()) for row in numbers))


@pytest.mark.parametrize("seed", range(25))
def test_areas_of_random_masks_are_matched_as_by_trying_all_pairs(seed):
    generator = np.random.default_rng(seed)
    field_pixels = (FIELD, 30_000)[seed % 2]  # among 30 000, areas below three pixels are too small
    masks = [
        ndimage.gaussian_filter(generator.standard_normal((13, 13)), 1) > generator.uniform(0.3, 0.6)
        for _ in range(2)
    ]
    masks[0] |= masks[1] & (generator.random((13, 13)) < 0.6)  # so that many areas match
    masks = [m & np.isin(label(m, connectivity=2), range(5)) for m in masks]
    assert count_areas(*masks, field_pixels) == by_hand(*masks, field_pixels)


def rows(*spans):
    mask = np.zeros((1, 200), bool)
    for start, end in spans:
        mask[0, start:end] = True
    return mask


def test_a_split_area_is_found_once_and_its_second_part_is_false():
    truth, predicted = rows((0, 20)), rows((0, 6), (7, 19))
    assert count_areas(predicted, truth, FIELD) == AreaCounts((0, 0, 1), (0, 0, 0), (0, 1, 0))


@pytest.mark.parametrize(("pixels", "found"), [(2, 0), (3, 1)])
def test_an_iou_of_one_tenth_is_no_match(pixels, found):
    counts = count_areas(rows((0, pixels)), rows((0, 20)), FIELD)  # 2 / 20 is not greater than .1
    assert (sum(counts.found), sum(counts.missed), sum(counts.false)) == (found, 1 - found, 1 - found)


def test_areas_are_counted_by_their_size_and_too_small_ones_are_left_out():
    truth = rows((0, 1), (10, 11), (20, 30), (40, 140))
    predicted = rows((20, 30), (150, 151), (160, 180))
    assert count_areas(predicted, truth, 10_000) == AreaCounts((0, 1, 0), (2, 0, 1), (1, 1, 0))
    assert count_areas(predicted, truth, 10_001) == AreaCounts((1, 0, 0), (0, 1, 0), (0, 1, 0))


def test_masks_without_areas():
    empty, one = rows(), rows((3, 40))
    assert count_areas(empty, empty, FIELD) == AreaCounts((0,) * 3, (0,) * 3, (0,) * 3)
    assert count_areas(one, empty, FIELD).false == (0, 0, 1)
    assert count_areas(empty, one, FIELD).missed == (0, 0, 1)
