import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.configuration.sections import Augmentation
from lib.training.augmentation import augment

ONE = np.array([True])
FLIPS_AND_ROTATIONS = Augmentation(True, True, True, 0, 0)


@given(st.integers(0, 1000), st.sampled_from([(6, 6), (5, 8)]))
@settings(max_examples=30)
def test_truth_and_field_of_view_are_flipped_and_rotated_with_the_image(seed, shape):
    # The truth is a function of the pixels, and must be the same function afterwards.
    images = np.random.default_rng(seed).random((12, *shape, 1)).astype(np.float32)
    aligned = np.concatenate([images > 0.5, images > 0.2], axis=-1).astype(np.uint8)
    moved, along = augment(images, aligned, FLIPS_AND_ROTATIONS, np.random.default_rng(seed), ONE)
    np.testing.assert_array_equal(along[..., 0], moved[..., 0] > 0.5)
    np.testing.assert_array_equal(along[..., 1], moved[..., 0] > 0.2)
    np.testing.assert_array_equal(np.sort(moved, axis=None), np.sort(images, axis=None))


def test_all_eight_orientations_of_a_square_are_equally_frequent():
    image = np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1) / 4
    images = np.repeat(image, 8000, axis=0)
    moved, _ = augment(
        images, np.zeros((8000, 2, 2, 1), np.uint8), FLIPS_AND_ROTATIONS, np.random.default_rng(0), ONE
    )
    _, counts = np.unique(moved.reshape(8000, 4), axis=0, return_counts=True)
    assert len(counts) == 8
    assert abs(counts - 1000).max() < 5 * np.sqrt(1000)


def test_without_augmentation_nothing_changes():
    images = np.random.default_rng(0).random((4, 5, 5, 1)).astype(np.float32)
    aligned = np.ones((4, 5, 5, 2), np.uint8)
    same, along = augment(
        images, aligned, Augmentation(False, False, False, 0, 0), np.random.default_rng(0), ONE
    )
    np.testing.assert_array_equal(same, images)
    np.testing.assert_array_equal(along, aligned)


@pytest.mark.parametrize(
    "jitter", [Augmentation(False, False, False, 0.3, 0), Augmentation(False, False, False, 0, 0.3)]
)
def test_jitter_changes_the_image_within_its_bounds_and_not_the_truth(jitter):
    images = np.random.default_rng(0).random((500, 4, 4, 1)).astype(np.float32)
    aligned = np.random.default_rng(1).integers(2, size=(500, 4, 4, 2), dtype=np.uint8)
    changed, along = augment(images, aligned, jitter, np.random.default_rng(2), ONE)
    np.testing.assert_array_equal(along, aligned)
    assert changed.dtype == np.float32 and changed.min() >= 0 and changed.max() <= 1
    if jitter.gamma_jitter:
        exponents = (np.log(changed) / np.log(images)).mean(axis=(1, 2, 3))
        assert 1 / 1.3 - 0.01 < exponents.min() < 0.8 and 1.25 < exponents.max() < 1.31
    else:
        ratios = changed.std(axis=(1, 2, 3)) / images.std(axis=(1, 2, 3))
        assert ratios.max() < 1.301 and 0.69 < ratios.min() < 0.72


def test_jitter_changes_only_the_intensity_channels_and_each_by_its_own_mean():
    images = np.random.default_rng(3).random((20, 6, 5, 3)).astype(np.float32)
    aligned = np.zeros((20, 6, 5, 2), np.uint8)
    jitter, intensities = Augmentation(False, False, False, 0.3, 0.3), np.array([True, False, True])
    changed, _ = augment(images, aligned, jitter, np.random.default_rng(4), intensities)
    np.testing.assert_array_equal(changed[..., 1], images[..., 1])
    for channel in (0, 2):
        alone, _ = augment(images[..., [channel]], aligned, jitter, np.random.default_rng(4), ONE)
        np.testing.assert_allclose(changed[..., [channel]], alone, atol=1e-6)
        assert (np.abs(alone - images[..., [channel]]).max(axis=(1, 2, 3)) > 0).all()
