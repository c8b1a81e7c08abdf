import dataclasses
import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit

from lib.configuration.reading import read_configuration
from lib.images.preprocessing import resample
from lib.networks.batches import LEAST_TILE, TILE_OVERLAP
from lib.prediction.sliding_window import (
    GRID,
    SlidingWindow,
    at_stored_size,
    cheapest_tiles,
    described_window,
    even_starts,
    predict_image,
    predict_stored_size,
    predict_views,
    strided_starts,
    tile_size_and_step,
    with_logit_shift,
)
from lib.runtime.paths import DEFAULT_CONFIGURATION

SETTINGS = dataclasses.replace(
    read_configuration(DEFAULT_CONFIGURATION).testing_settings,
    window="overlap",
    tile_size=24,
    tile_overlap=14,
    test_patch_height=16,
    test_patch_width=24,
    stride_height=7,
    stride_width=10,
    test_batch_size=5,
)


SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def pointwise(images: np.ndarray) -> np.ndarray:
    """A network of single pixels: patches and mirrors do not change its result."""
    return 1 / (1 + np.exp(-images))


def patch_means(images: np.ndarray) -> np.ndarray:
    """A network whose result at each pixel is the mean of the patch."""
    return np.broadcast_to(images.mean(axis=(1, 2), keepdims=True), images.shape)


@pytest.mark.parametrize("shape", [(40, 61), (16, 24), (5, 90), (3, 4)])
@pytest.mark.parametrize("window", ["auto", "overlap", "side_by_side", "tiles", "whole"])
@pytest.mark.parametrize("tta", ["none", "mirrors", "symmetries"])
def test_all_windows_give_the_same_result_for_a_network_of_single_pixels(shape, window, tta):
    levels = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    found = predict_image(pointwise, levels[..., None], dataclasses.replace(SETTINGS, window=window, tta=tta))
    assert found.shape == shape and found.dtype == np.float32
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-(levels / 255))), rtol=1e-5)


@pytest.mark.parametrize("window", ["overlap", "tiles", "whole"])
def test_views_are_the_members_in_each_symmetry(window):
    def two_members(images):
        return np.concatenate([pointwise(images), images / 2], axis=-1)

    levels = np.random.default_rng(0).integers(256, size=(40, 61, 1), dtype=np.uint8)
    chosen = dataclasses.replace(SETTINGS, window=window, tta="symmetries")
    views = predict_views(two_members, levels, chosen)
    image = levels[..., 0] / 255
    expected = np.tile([1 / (1 + np.exp(-image)), image / 2], (8, 1, 1))
    np.testing.assert_allclose(views, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(predict_image(two_members, levels, chosen), views.mean(axis=0), rtol=1e-6)


def test_tta_is_the_mean_over_the_four_mirror_images():
    def darker_to_the_right(images):
        return (
            images
            * np.linspace(1, 0, images.shape[2])[:, None]
            * np.linspace(1, 0, images.shape[1])[:, None, None]
        )

    levels = np.random.default_rng(2).integers(256, size=(20, 30), dtype=np.uint8)
    settings = dataclasses.replace(SETTINGS, window="whole", tta="mirrors")
    # A pixel has the weights w and 1 - w in two mirror images: .5 on average.
    np.testing.assert_allclose(
        predict_image(darker_to_the_right, levels[..., None], settings), levels / 255 / 4, atol=1e-6
    )


def test_symmetries_are_the_mean_over_the_eight_symmetries_of_the_square():
    weights = np.random.default_rng(4).random((20, 30))

    def weighted(images):  # the result depends on the place in the image, and on its orientation
        wide = images.shape[1] == 20
        return images * (weights if wide else weights.T**2)[..., None]

    levels = np.random.default_rng(2).integers(256, size=(20, 30), dtype=np.uint8)
    settings = dataclasses.replace(SETTINGS, window="whole", tta="symmetries")
    turns = [np.rot90(w, k) for w in (weights, weights[::-1]) for k in (0, 2)]
    mean = np.mean([turned + turned**2 for turned in turns], axis=0) / 2
    found = predict_image(weighted, levels[..., None], settings)
    np.testing.assert_allclose(found, levels / 255 * mean, atol=1e-6)


@pytest.mark.parametrize("window", ["auto", "overlap", "side_by_side", "tiles", "whole"])
@pytest.mark.parametrize("shape", [(40, 61), (5, 90)])
def test_each_pixel_keeps_its_channels(window, shape):
    def difference(images):  # of the first and the third channel
        assert images.shape[-1] == 3
        return (images[..., :1] - images[..., 2:] + 1) / 2

    levels = np.random.default_rng(5).integers(256, size=(*shape, 3), dtype=np.uint8)
    found = predict_image(difference, levels, dataclasses.replace(SETTINGS, window=window))
    expected = (levels[..., 0] / 255 - levels[..., 2] / 255 + 1) / 2
    np.testing.assert_allclose(found, expected, atol=1e-5)


@given(st.integers(1, 2000), st.integers(1, 600), st.data())
def test_tiles_are_as_few_and_as_short_as_possible_and_overlap(size, longest, data):
    overlap = data.draw(st.integers(0, longest - 1))
    length, step = tile_size_and_step(size, longest, overlap)
    starts = even_starts(size, length, step)
    assert length <= longest and starts[-1] + length == size
    if size <= longest:
        assert starts.tolist() == [0] and length == size
    else:
        assert len(starts) == -(-(size - longest) // (longest - overlap)) + 1  # as with the longest tiles
        assert np.diff(starts).max() <= length - overlap
        assert (length - 1) * len(starts) - (len(starts) - 1) * overlap < size


def test_tiles_of_an_angiogram_of_768_pixels():
    assert tile_size_and_step(768, 512, 48) == (408, 360) and tile_size_and_step(512, 512, 48) == (512, 512)


def test_tiles_have_gaussian_weights_of_an_eighth_of_their_size():
    levels = np.random.default_rng(1).integers(256, size=(16, 34), dtype=np.uint8)
    settings = dataclasses.replace(SETTINGS, window="tiles")
    rows, columns = (np.exp(-(((np.arange(n) - (n - 1) / 2) * 8 / n) ** 2) / 2) for n in (16, 24))
    total, covered = np.zeros((2, 16, 34))
    for column in (0, 10):
        total[:, column : column + 24] += (
            np.outer(rows, columns) * levels[:, column : column + 24].mean() / 255
        )
        covered[:, column : column + 24] += np.outer(rows, columns)
    np.testing.assert_allclose(
        predict_image(patch_means, levels[..., None], settings), total / covered, rtol=1e-4
    )


def test_every_pixel_is_the_mean_of_all_patches_over_it():
    levels = np.random.default_rng(1).integers(256, size=(30, 34), dtype=np.uint8)
    total, covered = np.zeros((2, 30, 34))
    for row in (0, 7, 14):
        for column in (0, 10):
            window = (slice(row, row + 16), slice(column, column + 24))
            total[window] += levels[window].mean() / 255
            covered[window] += 1
    np.testing.assert_allclose(
        predict_image(patch_means, levels[..., None], SETTINGS), total / covered, rtol=1e-5
    )


def test_batches_that_finish_in_another_order_keep_their_places():
    def slow_where_bright(images):
        time.sleep(0.05 * float(images.mean()))
        return images

    levels = np.random.default_rng(3).integers(256, size=(40, 61), dtype=np.uint8)
    levels[:, :35] //= 40
    settings = dataclasses.replace(SETTINGS, window="overlap", test_batch_size=1)
    found = predict_image(slow_where_bright, levels[..., None], settings)
    np.testing.assert_allclose(found, levels / 255, rtol=1e-5)


def test_an_error_in_a_later_batch_is_raised():
    calls = []

    def fails_at_last(images):
        calls.append(len(images))
        if len(calls) > 4:
            raise ValueError("no more")
        return images

    levels = np.zeros((40, 61), np.uint8)
    with pytest.raises(ValueError, match="no more"):
        predict_image(fails_at_last, levels[..., None], dataclasses.replace(SETTINGS, test_batch_size=1))
    assert 5 <= len(calls) < 9  # of 25: running batches end, and no batch starts after the error


@given(image=SIZES, patch=SIZES, data=st.data())
@settings(max_examples=60, deadline=None)
def test_extracted_patches_add_up_to_the_image(image, patch, data):
    stride = tuple(data.draw(st.integers(1, side)) for side in patch)
    pixels = np.random.default_rng(1).random(image).astype(np.float32)
    window = SlidingWindow(image, patch, stride)
    number, batch = len(window.starts), data.draw(st.integers(1, 9))
    for start in range(0, number, batch):
        chosen = slice(start, start + batch)
        window.add(window.extract(pixels[..., None], chosen)[..., 0], chosen)
    assert window.mean.shape == image
    np.testing.assert_allclose(window.mean, pixels, rtol=1e-5)


@given(st.integers(1, 200), st.integers(1, 50), st.data())
def test_strided_patches_cover_every_pixel_and_stay_inside(size, patch, data):
    patch = min(size, patch)
    starts = strided_starts(size, patch, data.draw(st.integers(1, patch)))
    covered = np.zeros(size, bool)
    for start in starts:
        covered[start : start + patch] = True
    assert covered.all() and starts[-1] + patch == size


def test_overlapping_patches_are_averaged_hand_worked():
    window = SlidingWindow((1, 3), (1, 2), (1, 1))
    window.add(np.array([[[0.0, 0.2]], [[0.6, 1.0]]], np.float32))
    np.testing.assert_allclose(window.mean, [[0.0, 0.4, 1.0]], rtol=1e-6)


@given(st.integers(1, 300), st.integers(1, 60), st.integers(1, 60))
def test_even_starts_reach_both_ends_in_equal_steps(size, patch, stride):
    size, stride = max(size, patch), min(stride, patch)
    starts = even_starts(size, patch, stride)
    assert starts[0] == 0 and starts[-1] == size - patch
    steps = np.diff(starts)
    assert not steps.size or (steps.min() >= 1 and steps.max() <= stride and np.ptp(steps) <= 1)
    assert len(starts) == -(-(size - patch) // stride) + 1  # the smallest number of steps


@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.tuples(st.integers(2, 24), st.integers(2, 24)),
    st.tuples(st.integers(1, 24), st.integers(1, 24)),
)
def test_extracted_tiles_add_up_to_the_image(shape, patch, stride):
    image = np.random.default_rng(0).random(shape)
    stride = tuple(min(s, p) for s, p in zip(stride, patch, strict=True))
    window = SlidingWindow(shape, patch, stride, tiles=True)
    window.add(window.extract(image[..., None])[..., 0])
    np.testing.assert_allclose(window.mean, image, rtol=1e-5)


def test_the_mean_of_probabilities_of_one_is_not_above_one():
    window = SlidingWindow((584, 565), (192, 192), (96, 96), tiles=True)
    window.add(np.ones((len(window.starts), 192, 192), np.float32))
    assert window.mean.min() > 0.9999 and window.mean.max() == 1


@given(st.floats(0, 1), st.integers(0, 99), st.floats(0.2, 1))
def test_a_logit_shift_keeps_the_order_and_lowers_the_percentile_if_it_is_above_one_half(share, seed, most):
    probability = np.random.default_rng(seed).random((20, 20), np.float32) * (most - 0.02) + 0.01
    view = np.ones((20, 20), np.uint8)
    view[:4] = 0
    shifted = with_logit_shift(probability, view, share)
    assert shifted.dtype == np.float32
    order = np.argsort(probability, axis=None)
    assert (np.diff(shifted.flat[order]) >= -1e-6).all()
    before, after = (logit(np.percentile(p[4:], 99).astype(float)) for p in (probability, shifted))
    assert after == pytest.approx((1 - share) * before if before > 0 else before, abs=0.03)
    np.testing.assert_array_equal(with_logit_shift(probability, np.zeros_like(view), share), probability)


def test_what_is_predicted_outside_the_field_of_view_does_not_reach_into_it():
    rows, columns = np.mgrid[:128, :128] - 63.5
    view = (rows**2 + columns**2 < 60**2).astype(np.uint8)
    inside = (rows[1::2, 1::2] ** 2 + columns[1::2, 1::2] ** 2 < 59**2)[None, ..., None]
    whole = dataclasses.replace(SETTINGS, window="whole")
    levels = np.zeros((64, 64, 1), np.uint8)
    found = predict_stored_size(lambda _: np.where(inside, 0.1, 0.9).astype(np.float32), levels, view, whole)
    assert found.shape == (128, 128)
    np.testing.assert_allclose(found[view > 0], 0.1, atol=1e-6)


def test_a_resampled_probability_is_one_even_if_the_network_is_saturated():
    # cv2.blur subtracts what leaves its window: beside large values, a sum of tiny ones can be negative.
    random = np.random.default_rng(0)
    logits = np.where(cv2.GaussianBlur(random.standard_normal((320, 320)), (0, 0), 9) > 0.03, 3.0, -39.0)
    probability = (1 / (1 + np.exp(-logits))).astype(np.float32)
    view = (np.hypot(*np.mgrid[:480, :480] - 239.5) < 220).astype(np.uint8)
    found = at_stored_size(probability, view, SETTINGS)
    assert found.min() >= 0 and found.max() <= 1


def test_pixels_at_the_edge_of_an_image_whose_field_of_view_reaches_it_are_resampled_only():
    probability = np.random.default_rng(0).random((64, 64), np.float32)
    found = at_stored_size(probability, np.ones((128, 128), np.uint8), SETTINGS)
    np.testing.assert_array_equal(found, resample(probability, (128, 128)))


def blurred_after_pooling(images: np.ndarray) -> np.ndarray:
    """A network with pooling: maxima of 4x4 pixels, their means over 3x3, in the size of the image."""
    (image,) = images[..., 0]
    pooled = image.reshape(image.shape[0] // 4, 4, -1, 4).max(axis=(1, 3))
    return np.kron(cv2.blur(pooled, (3, 3)), np.ones((4, 4)))[None, ..., None]


def test_tiles_of_auto_predict_the_whole_image_if_they_overlap_enough():
    calls = []

    def predict(images):
        calls.append(images.shape)
        return blurred_after_pooling(images)

    levels = np.random.default_rng(6).integers(256, size=(256, 336, 1), dtype=np.uint8)
    whole = predict_image(predict, levels, dataclasses.replace(SETTINGS, window="whole"))
    auto = dataclasses.replace(SETTINGS, window="auto", tile_size=128, tile_overlap=32)
    calls.clear()
    tiled = predict_image(predict, levels, auto)
    assert len(calls) > 4 and len(set(calls)) == 1
    np.testing.assert_allclose(tiled, whole, atol=2e-3)  # the last pixels of a tile have a weight of .001
    np.testing.assert_array_equal(
        predict_image(predict, levels, dataclasses.replace(auto, tile_size=512)), whole
    )


@given(st.tuples(st.integers(256, 4000), st.integers(256, 4000)), st.integers(LEAST_TILE, 1500))
@settings(deadline=None)
def test_tiles_of_auto_cost_at_most_a_fifth_more_than_the_whole_image_and_fit(shape, side):
    padded = tuple(-(-length // GRID) * GRID for length in shape)
    patch, stride = zip(*cheapest_tiles(padded, side**2, TILE_OVERLAP), strict=True)
    assert np.prod(patch) <= side**2
    starts = SlidingWindow(padded, patch, stride, tiles=True, grid=GRID).starts
    assert not (starts % GRID).any()
    assert len(starts) * np.prod(patch) <= 1.2 * np.prod(shape) or np.prod(shape) <= side**2
    for axis in (0, 1):
        ats = np.unique(starts[:, axis])
        assert ats[0] == 0 and ats[-1] + patch[axis] == padded[axis]
        assert np.diff(ats).max(initial=0) <= patch[axis] - TILE_OVERLAP


@given(st.tuples(st.integers(1, 20), st.integers(1, 20)), st.integers(64, 200), st.integers(0, 2))
@settings(deadline=None)
def test_tiles_of_auto_add_up_to_the_image(sides, side, overlap):
    image = np.random.default_rng(0).random(tuple(GRID * s for s in sides))
    patch, stride = zip(*cheapest_tiles(image.shape, side**2, GRID * overlap), strict=True)
    window = SlidingWindow(image.shape, patch, stride, tiles=True, grid=GRID)
    window.add(window.extract(image[..., None])[..., 0])
    np.testing.assert_allclose(window.mean, image, rtol=1e-5)


def test_the_user_is_told_the_window():
    auto = dataclasses.replace(SETTINGS, window="auto", tile_size=700)
    assert "at most 700x700 pixels whole" in described_window(auto)
    assert described_window(SETTINGS) == "window = overlap"
