import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.runtime.errors import UserError
from lib.training.patch_sampler import PatchSampler, TrainingImage, cut_patches


def training_image(height: int, width: int, seed: int = 0, name: str = "a") -> TrainingImage:
    generator = np.random.default_rng(seed)
    levels = generator.integers(256, size=(height, width, 2), dtype=np.uint8)
    truth = (generator.random((height, width)) < 0.1).astype(np.uint8)
    rows, columns = np.ogrid[:height, :width]
    inside = np.hypot(rows - height / 2, columns - width / 2) < min(height, width) / 2
    return TrainingImage(name, levels, truth, inside.astype(np.uint8))


def test_cut_patches_agrees_with_slicing():
    images = [training_image(30, 41, 1), training_image(25, 33, 2)]
    corners = PatchSampler(images, 8, 11).draw(57, np.random.default_rng(0))
    patches = cut_patches([i.levels for i in images], corners, 8, 11)
    for patch, image, row, column in zip(patches, corners.image, corners.row, corners.column, strict=True):
        np.testing.assert_array_equal(patch, images[image].levels[row : row + 8, column : column + 11])


@given(st.integers(1, 60), st.integers(1, 6))
@settings(max_examples=20)
def test_each_image_gets_equally_many_patches_up_to_one(number, count):
    images = [training_image(12, 12, i) for i in range(count)]
    corners = PatchSampler(images, 4, 4).draw(number, np.random.default_rng(number))
    shares = np.bincount(corners.image, minlength=count)
    assert shares.sum() == number and np.ptp(shares) <= 1


def test_corners_are_equally_frequent_in_the_whole_image():
    corners = PatchSampler([training_image(10, 9)], 4, 4).draw(42_000, np.random.default_rng(0))
    counts = np.bincount(corners.row * 6 + corners.column, minlength=42)
    assert counts.size == 42
    assert abs(counts - 1000).max() < 5 * np.sqrt(1000)  # binomial noise


def test_inside_FOV_draws_exactly_the_patches_inside_the_field_of_view():
    image = training_image(64, 50)
    corners = PatchSampler([image], 16, 12, inside_FOV=True).draw(20_000, np.random.default_rng(0))
    assert cut_patches([image.field_of_view], corners, 16, 12).all()
    allowed = {
        (r, c) for r in range(49) for c in range(39) if image.field_of_view[r : r + 16, c : c + 12].all()
    }
    assert set(zip(corners.row, corners.column, strict=True)) == allowed


def test_the_error_for_a_small_field_of_view_names_the_image():
    with pytest.raises(UserError, match="left eye: no patch of 30x30"):
        PatchSampler([training_image(32, 32, name="left eye")], 30, 30, inside_FOV=True)


def test_the_given_share_of_patches_is_centred_on_the_truth():
    image = training_image(80, 80)
    truth = np.zeros_like(image.truth)
    truth[40, 33] = 1
    image = TrainingImage("a", image.levels, truth, image.field_of_view)
    sampler = PatchSampler([image], 8, 8, truth_centred_share=0.25)
    corners = sampler.draw(400, np.random.default_rng(0))
    centred = (corners.row == 36) & (corners.column == 29)
    assert 100 <= centred.sum() <= 103  # some of the other patches also have this position


@pytest.mark.parametrize(("count", "share"), [(120, 0.25), (160, 0.4), (300, 0.6)])
def test_the_share_holds_with_few_patches_from_each_image(count, share):
    image = training_image(80, 80)
    truth = np.zeros_like(image.truth)
    truth[40, 33] = 1
    image = TrainingImage("a", image.levels, truth, image.field_of_view)
    sampler = PatchSampler([image] * count, 8, 8, truth_centred_share=share)
    corners = [sampler.draw(240, np.random.default_rng(seed)) for seed in range(10)]
    centred = np.mean([(c.row == 36) & (c.column == 29) for c in corners])
    assert centred == pytest.approx(share, abs=0.04)


def test_the_same_seed_draws_the_same_patches():
    sampler = PatchSampler([training_image(20, 20), training_image(30, 30)], 8, 8)
    first, second = (sampler.draw(99, np.random.default_rng([1, 2])) for _ in range(2))
    np.testing.assert_array_equal(first.row, second.row)
    np.testing.assert_array_equal(first.image, second.image)


def test_an_image_smaller_than_a_patch_is_padded_outside_its_field_of_view():
    original, outside = training_image(5, 30), np.array([0, 128], np.uint8)
    image = original.at_least(8, 8, outside)
    assert image.levels.shape == (8, 30, 2) and image.levels.dtype == np.uint8
    assert image.truth.shape == image.field_of_view.shape == (8, 30)
    np.testing.assert_array_equal(image.levels[:5], original.levels)
    assert (image.levels[5:] == outside).all()
    assert not image.field_of_view[5:].any() and not image.truth[5:].any()


@pytest.mark.parametrize(("share", "expected"), [(0, 0), (0.3, 30), (1, 100)])
def test_negatives_share_is_the_share_of_the_patches_from_negatives(share, expected):
    images = [training_image(12, 12, i) for i in range(5)]
    images += [dataclasses.replace(training_image(12, 12, i), negative=True) for i in (7, 8)]
    images = images[3:] + images[:3]  # the order does not matter
    negative = np.array([image.negative for image in images])
    drawn = PatchSampler(images, 4, 4, negatives_share=share).draw(100, np.random.default_rng(0))
    counts = np.bincount(drawn.image, minlength=7)
    assert counts[negative].sum() == expected and counts.sum() == 100
    assert np.ptp(counts[negative]) <= 1 and np.ptp(counts[~negative]) <= 1


def test_without_negatives_share_negatives_are_drawn_like_other_images():
    images = [training_image(12, 12, i) for i in range(5)]
    marked = [dataclasses.replace(image, negative=i > 2) for i, image in enumerate(images)]
    first, second = (PatchSampler(i, 4, 4).draw(99, np.random.default_rng(1)) for i in (images, marked))
    for field in ("image", "row", "column"):
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field))


def test_the_auxiliary_truth_is_padded_like_the_truth():
    image = training_image(5, 30)
    image = dataclasses.replace(image, auxiliary=image.truth, negative=True)
    image = image.at_least(8, 8, np.zeros(image.levels.shape[-1], np.uint8))
    np.testing.assert_array_equal(image.auxiliary, image.truth)
    assert image.negative
