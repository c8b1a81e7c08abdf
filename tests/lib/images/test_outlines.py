import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lib.images.labelme import labelme_document, rasterise, read_labelme
from lib.images.outlines import AREA_COLOUR, MAX_DISTANCE, areas, contours, draw_outlines


def blobs(seed, height, width, sigma, share):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((height, width)), sigma)
    return noise > np.quantile(noise, 1 - share)


def drawn_again(mask, folder):
    file = folder / "a.json"
    file.write_text(json.dumps(labelme_document(mask, "NP", "a.png")))
    return rasterise(read_labelme(file), ["NP"], [], *mask.shape) > 0


@given(
    st.integers(0, 10_000), st.integers(1, 90), st.integers(1, 90), st.floats(0.3, 6), st.floats(0.01, 0.95)
)
@settings(max_examples=80, deadline=None)
def test_rasterised_labelme_file_overlaps_every_area(tmp_path_factory, seed, height, width, sigma, share):
    mask = blobs(seed, height, width, sigma, share)
    again = drawn_again(mask, tmp_path_factory.mktemp("again"))
    for area in areas(mask):
        assert area.polygon is not None
        x, y = area.corner
        rows, columns = area.mask.shape
        part = again[y : y + rows, x : x + columns]
        # Other areas may be in the bounding box: the pixels outside are checked below, by the union.
        assert (part & area.mask).sum() >= 0.99 * area.mask.sum()
    if mask.any():
        assert (again & mask).sum() >= 0.99 * (again | mask).sum()


def test_a_ring_is_one_keyhole_polygon(tmp_path):
    rows, columns = np.ogrid[:60, :60]
    distance = np.hypot(rows - 30, columns - 30)
    mask = (distance < 25) & (distance > 9) | (distance < 3)
    ring, island = areas(mask)
    assert ring.polygon is not None and island.polygon is not None
    again = drawn_again(mask, tmp_path)
    assert not again[30 - 6, 30] and (again & mask).sum() >= 0.99 * (again | mask).sum()


def test_nested_and_neighbouring_holes_are_joined(tmp_path):
    mask = np.ones((50, 70), bool)
    for top, left in [(5, 5), (5, 30), (20, 6), (30, 31), (40, 60)]:
        mask[top : top + 6, left : left + 8] = False
    (area,) = areas(mask)
    assert area.polygon is not None
    np.testing.assert_array_equal(drawn_again(mask, tmp_path), mask)


def test_outlines_are_simplified_within_half_a_pixel():
    rows, columns = np.ogrid[:200, :200]
    mask = np.hypot(rows - 100, columns - 100) < 80
    (area,) = areas(mask)
    rim = np.argwhere(mask & ~ndimage.binary_erosion(mask))[:, ::-1]
    assert len(area.polygon) < len(rim) / 4
    starts, ends = area.polygon, np.roll(area.polygon, -1, axis=0)
    along = ends - starts
    share = np.einsum("psk,sk->ps", rim[:, None] - starts, along) / (along**2).sum(1)
    nearest = starts + np.clip(share, 0, 1)[..., None] * along
    distance = np.linalg.norm(rim[:, None] - nearest, axis=2).min(axis=1)
    assert distance.max() <= MAX_DISTANCE + 1e-9


THIN = {
    "pixel": [(4, 4)],
    "across": [(4, x) for x in range(2, 9)],
    "down": [(y, 4) for y in range(2, 9)],
    "diagonal": [(i, i) for i in range(2, 9)],
    "other diagonal": [(10 - i, i) for i in range(2, 9)],
    "bent": [(4, 2), (4, 3), (4, 4), (5, 5), (6, 5), (7, 5)],
}


@pytest.mark.parametrize("name", THIN)
def test_polygons_of_points_and_lines_are_exact(tmp_path, name):
    mask = np.zeros((12, 12), bool)
    mask[tuple(zip(*THIN[name], strict=True))] = True
    (area,) = areas(mask)
    assert area.polygon is not None
    np.testing.assert_array_equal(drawn_again(mask, tmp_path), mask)


def test_an_area_with_ten_thousand_holes_becomes_a_mask(tmp_path):
    mask = np.ones((241, 241), bool)
    mask[1::2, 1::2] = False
    (area,) = areas(mask)
    assert area.polygon is None
    np.testing.assert_array_equal(drawn_again(mask, tmp_path), mask)


def test_areas_are_sorted_by_size_and_an_empty_mask_has_none():
    mask = blobs(1, 80, 80, 2, 0.3)
    sizes = [int(area.mask.sum()) for area in areas(mask)]
    assert sizes == sorted(sizes, reverse=True) and sum(sizes) == mask.sum()
    assert areas(np.zeros((5, 5), bool)) == []


@pytest.mark.parametrize("shape", [(60, 80), (60, 80, 3)])
def test_the_drawn_outline_is_on_the_border_and_changes_no_other_pixels(shape):
    mask = np.zeros((60, 80), bool)
    mask[20:40, 30:60] = True
    original = np.full(shape, 100, np.uint8)
    picture = draw_outlines(original, [(mask, AREA_COLOUR)])
    changed = (picture != 100).any(axis=2)
    assert np.abs(picture[20, 45] - np.array(AREA_COLOUR)).max() < 20  # smoothed
    assert changed[20, 30:60].all() and not changed[25:35, 35:55].any()
    assert not changed[:18].any() and (original == 100).all()
    assert len(contours(mask)) == 1
