import dataclasses
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.configuration.reading import read_configuration
from lib.prediction.sliding_window import predict_image, spread_starts, tile_size_and_step
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


def pointwise(images: np.ndarray) -> np.ndarray:
    """A network that sees single pixels, so that neither patches nor mirrors can matter."""
    return 1 / (1 + np.exp(-images))


def patch_means(images: np.ndarray) -> np.ndarray:
    """A network whose every pixel tells the mean of its patch."""
    return np.broadcast_to(images.mean(axis=(1, 2), keepdims=True), images.shape)


@pytest.mark.parametrize("shape", [(40, 61), (16, 24), (5, 90), (3, 4)])
@pytest.mark.parametrize("window", ["overlap", "side_by_side", "tiles", "whole"])
@pytest.mark.parametrize("tta", [False, True])
def test_every_window_of_any_image_gives_the_image_in_one_piece(shape, window, tta):
    levels = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    found = predict_image(pointwise, levels, dataclasses.replace(SETTINGS, window=window, tta=tta))
    assert found.shape == shape and found.dtype == np.float32
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-(levels / 255))), rtol=1e-5)


def test_tta_is_the_mean_over_the_four_mirror_images():
    def darker_to_the_right(images):
        return (
            images
            * np.linspace(1, 0, images.shape[2])[:, None]
            * np.linspace(1, 0, images.shape[1])[:, None, None]
        )

    levels = np.random.default_rng(2).integers(256, size=(20, 30), dtype=np.uint8)
    settings = dataclasses.replace(SETTINGS, window="whole", tta=True)
    # What is weighted by w one way and by 1 - w the other is weighted by a half.
    np.testing.assert_allclose(
        predict_image(darker_to_the_right, levels, settings), levels / 255 / 4, atol=1e-6
    )


@given(st.integers(1, 2000), st.integers(1, 600), st.data())
def test_tiles_are_few_overlap_as_asked_and_are_no_longer_than_need_be(size, longest, data):
    overlap = data.draw(st.integers(0, longest - 1))
    length, step = tile_size_and_step(size, longest, overlap)
    starts = spread_starts(size, length, step)
    assert length <= longest and starts[-1] + length == size
    if size <= longest:
        assert starts.tolist() == [0] and length == size
    else:
        assert len(starts) == -(-(size - longest) // (longest - overlap)) + 1  # as of the longest
        assert np.diff(starts).max() <= length - overlap
        assert (length - 1) * len(starts) - (len(starts) - 1) * overlap < size


def test_tiles_of_an_angiogram():
    assert tile_size_and_step(768, 512, 48) == (408, 360) and tile_size_and_step(512, 512, 48) == (
        512,
        512,
    )


def test_tiles_weigh_patches_by_a_gaussian_of_an_eighth_of_their_size():
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
        predict_image(patch_means, levels, settings), total / covered, rtol=1e-4
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
        predict_image(patch_means, levels, SETTINGS), total / covered, rtol=1e-5
    )


def test_batches_that_overtake_each_other_land_where_they_belong():
    def slow_where_bright(images):
        time.sleep(0.05 * float(images.mean()))
        return images

    levels = np.random.default_rng(3).integers(256, size=(40, 61), dtype=np.uint8)
    levels[:, :35] //= 40
    settings = dataclasses.replace(SETTINGS, window="overlap", test_batch_size=1)
    found = predict_image(slow_where_bright, levels, settings)
    np.testing.assert_allclose(found, levels / 255, rtol=1e-5)


def test_a_fault_in_a_later_batch_is_not_lost():
    calls = []

    def fails_at_last(images):
        calls.append(len(images))
        if len(calls) > 4:
            raise ValueError("no more")
        return images

    levels = np.zeros((40, 61), np.uint8)
    with pytest.raises(ValueError, match="no more"):
        predict_image(fails_at_last, levels, dataclasses.replace(SETTINGS, test_batch_size=1))
    assert 5 <= len(calls) < 9  # of 25: what was under way has ended, and nothing began after it
