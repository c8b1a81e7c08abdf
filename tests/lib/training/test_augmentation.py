from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.transform import AffineTransform, warp

from lib.configuration.sections import Augmentation
from lib.training.augmentation import augment

OFF = Augmentation(
    False, False, False, **{field.name: 0 for field in fields(Augmentation)[3:]} | {"moved_share": 1}
)
FLIPS_AND_ROTATIONS = replace(OFF, flip_horizontal=True, flip_vertical=True, rotate_90=True)
GEOMETRY = {"rotation": 180, "scale": 0.3, "shear": 0.3, "shift": 0.2, "elastic": 0.02}
ALL = replace(
    FLIPS_AND_ROTATIONS,
    **GEOMETRY,
    gamma_jitter=0.3,
    contrast_jitter=0.3,
    illumination=0.3,
    blur=2,
    noise=0.1,
)
ONE_CHANNEL = np.ones(1, bool)


def smooth_images(number: int, height: int, width: int, channels: int = 1) -> np.ndarray:
    """Random images (N, H, W, C) that differ by less than 0.1 from pixel to pixel."""
    noise = np.random.default_rng(5).standard_normal((number, height, width, channels))
    smooth = ndimage.gaussian_filter(noise, (0, 4, 4, 0), mode="wrap")
    return ((smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32)


@given(st.integers(0, 1000), st.sampled_from([(6, 6), (5, 8)]))
@settings(max_examples=30)
def test_truth_and_field_of_view_are_flipped_and_rotated_with_the_image(seed, shape):
    # The truth is a function of the pixels, and must be the same function afterwards.
    images = np.random.default_rng(seed).random((12, *shape, 1)).astype(np.float32)
    aligned = np.concatenate([images > 0.5, images > 0.2], axis=-1).astype(np.uint8)
    moved, along = augment(images, aligned, FLIPS_AND_ROTATIONS, np.random.default_rng(seed), ONE_CHANNEL)
    np.testing.assert_array_equal(along[..., :1], moved > 0.5)
    np.testing.assert_array_equal(along[..., 1:], moved > 0.2)
    np.testing.assert_array_equal(np.sort(moved, axis=None), np.sort(images, axis=None))


def test_all_eight_orientations_of_a_square_are_equally_frequent():
    image = np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1) / 4
    images = np.repeat(image, 8000, axis=0)
    aligned = np.zeros((8000, 2, 2, 1), np.uint8)
    moved, _ = augment(images, aligned, FLIPS_AND_ROTATIONS, np.random.default_rng(0), ONE_CHANNEL)
    _, counts = np.unique(moved.reshape(8000, 4), axis=0, return_counts=True)
    assert len(counts) == 8
    assert abs(counts - 1000).max() < 5 * np.sqrt(1000)


def test_without_augmentation_nothing_changes():
    images = np.random.default_rng(0).random((4, 5, 5, 3)).astype(np.float32)
    aligned = np.ones((4, 5, 5, 2), np.uint8)
    generator = np.random.default_rng(0)
    same, along = augment(images, aligned, OFF, generator, np.ones(3, bool))
    np.testing.assert_array_equal(same, images)
    np.testing.assert_array_equal(along, aligned)
    assert generator.random() == np.random.default_rng(0).random()  # no random number was drawn


def test_flips_and_jitter_use_the_random_numbers_of_earlier_versions():
    images = np.random.default_rng(0).random((9, 7, 7)).astype(np.float32)
    aligned = np.random.default_rng(1).integers(2, size=(9, 7, 7, 2), dtype=np.uint8)
    old = replace(FLIPS_AND_ROTATIONS, gamma_jitter=0.3, contrast_jitter=0.2)
    found, along = augment(images[..., None], aligned, old, np.random.default_rng(3), ONE_CHANNEL)
    # The same in other words, without channels.
    drawn = np.random.default_rng(3)
    vertical, horizontal = drawn.random(9) < 0.5, drawn.random(9) < 0.5
    turns = drawn.choice((0, 1, 2, 3), 9)
    gammas = np.exp(drawn.uniform(-np.log1p(0.3), np.log1p(0.3), 9)).astype(np.float32)
    factors = drawn.uniform(-1, 1, 9).astype(np.float32) * np.float32(0.2) + 1
    for index in range(9):
        image, truth = images[index], aligned[index]
        if vertical[index]:
            image, truth = image[::-1], truth[::-1]
        if horizontal[index]:
            image, truth = image[:, ::-1], truth[:, ::-1]
        image, truth = np.rot90(image, turns[index]), np.rot90(truth, turns[index])
        image = image ** gammas[index]
        image = np.clip((image - image.mean()) * factors[index] + image.mean(), 0, 1)
        np.testing.assert_allclose(found[index, ..., 0], image, atol=1e-6)
        np.testing.assert_array_equal(along[index], truth)


def test_the_new_changes_draw_after_the_old_ones():
    images = np.random.default_rng(0).random((20, 8, 8, 1)).astype(np.float32)
    aligned = np.random.default_rng(1).integers(2, size=(20, 8, 8, 2), dtype=np.uint8)
    old = replace(FLIPS_AND_ROTATIONS, gamma_jitter=0.3, contrast_jitter=0.3)
    new = replace(old, illumination=1e-6, noise=1e-6)
    expected, truth = augment(images, aligned, old, np.random.default_rng(2), ONE_CHANNEL)
    found, along = augment(images, aligned, new, np.random.default_rng(2), ONE_CHANNEL)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_array_equal(along, truth)


@pytest.mark.parametrize("jitter", [replace(OFF, gamma_jitter=0.3), replace(OFF, contrast_jitter=0.3)])
def test_jitter_changes_the_image_within_its_bounds_and_not_the_truth(jitter):
    images = np.random.default_rng(0).random((500, 4, 4, 1)).astype(np.float32)
    aligned = np.random.default_rng(1).integers(2, size=(500, 4, 4, 2), dtype=np.uint8)
    changed, along = augment(images, aligned, jitter, np.random.default_rng(2), ONE_CHANNEL)
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
    jitter, intensities = replace(OFF, gamma_jitter=0.3, contrast_jitter=0.3), np.array([True, False, True])
    changed, _ = augment(images, aligned, jitter, np.random.default_rng(4), intensities)
    np.testing.assert_array_equal(changed[..., 1], images[..., 1])
    for channel in (0, 2):
        alone, _ = augment(images[..., [channel]], aligned, jitter, np.random.default_rng(4), ONE_CHANNEL)
        np.testing.assert_allclose(changed[..., [channel]], alone, atol=1e-6)
        assert (np.abs(alone - images[..., [channel]]).max(axis=(1, 2, 3)) > 0).all()


def expected_map(key: str, largest: float, drawn: np.ndarray, height: int, width: int) -> AffineTransform:
    """The map of scikit-image for the numbers in [-1, 1] that were drawn for one patch."""
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    angle, log_scale, shear, across, down = drawn * largest
    change = {
        "rotation": AffineTransform(rotation=np.radians(angle)),
        "scale": AffineTransform(scale=np.exp(log_scale)),
        "shear": AffineTransform(np.array([[1, shear, 0], [0, 1, 0], [0, 0, 1]])),
        "shift": AffineTransform(translation=(across * width, down * height)),
    }[key]
    return AffineTransform(translation=-centre) + change + AffineTransform(translation=centre)


@pytest.mark.parametrize(("key", "largest"), [(k, v) for k, v in GEOMETRY.items() if k != "elastic"])
def test_affine_changes_agree_with_scikit_image(key, largest):
    number, height, width = 12, 40, 56
    images = smooth_images(number, height, width, 2)
    aligned = np.concatenate([images[..., :1] > 0.5, np.ones_like(images[..., :1])], -1).astype(np.uint8)
    settings_of_key = replace(OFF, **{key: largest})
    moved, along = augment(images, aligned, settings_of_key, np.random.default_rng(4), np.ones(2, bool))
    assert moved.dtype == np.float32 and along.dtype == np.uint8
    drawn = np.random.default_rng(4).uniform(-1, 1, (number, 5))
    for index in range(number):
        inverse = expected_map(key, largest, drawn[index], height, width).inverse
        expected = warp(images[index], inverse, order=1, mode="constant", clip=False)
        # OpenCV rounds positions to 1/32 pixel, which is also visible at the border of the patch.
        assert abs(moved[index] - expected).mean() < 1e-3
        assert abs(moved[index] - expected).max() < 0.04
        truth = warp(aligned[index].astype(float), inverse, order=0, mode="constant", clip=False)
        assert (along[index] != truth).mean() < 0.01
    assert (along[..., 1] == 0).any() and (along != aligned).mean() > 0.02


@pytest.mark.parametrize(
    "wanted", [*({key: value} for key, value in GEOMETRY.items()), GEOMETRY], ids=[*GEOMETRY, "all"]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_truth_and_field_of_view_move_with_all_channels(wanted, dtype):
    images = smooth_images(10, 48, 40, 5)
    aligned = np.concatenate([images > 0.5, np.ones_like(images[..., :1])], axis=-1).astype(dtype)
    changes = replace(FLIPS_AND_ROTATIONS, **wanted)
    moved, along = augment(images, aligned, changes, np.random.default_rng(7), np.ones(5, bool))
    assert along.dtype == dtype
    inside = np.stack([ndimage.binary_erosion(one, np.ones((3, 3))) for one in along[..., 5]])
    clear = inside[..., None] & (abs(moved - 0.5) > 0.1)  # a truth is not interpolated
    assert clear.mean() > 0.2
    np.testing.assert_array_equal(along[..., :5][clear], moved[clear] > 0.5)
    outside = np.stack([ndimage.binary_erosion(one == 0, np.ones((3, 3))) for one in along[..., 5]])
    assert (moved[outside] == 0).all() and (along[outside] == 0).all()


def positions(key: str, largest: float, number: int = 1500, side: int = 50) -> np.ndarray:
    """Displacement (N, H, W, 2) in pixels of each pixel, read from images whose levels are the positions."""
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    images = np.repeat(np.stack([columns, rows], -1)[None] / side, number, axis=0)
    aligned = np.zeros((number, side, side, 1), np.uint8)
    moved, _ = augment(
        images, aligned, replace(OFF, **{key: largest}), np.random.default_rng(1), np.ones(2, bool)
    )
    return (moved - images) * side


def test_elastic_displacements_have_their_standard_deviation_and_are_smooth():
    displacement = positions("elastic", 0.02)
    centre = displacement[:, 24, 24]
    assert centre.std(axis=0) == pytest.approx([1, 1], rel=0.08) and abs(centre.mean()) < 0.1
    assert abs(np.corrcoef(centre.T)[0, 1]) < 0.1
    # Four grid points away there is no correlation; between neighbours the difference is small.
    assert abs(np.corrcoef(displacement[:, 8, 8, 0], displacement[:, 40, 40, 0])[0, 1]) < 0.1
    inner = displacement[:, 10:40, 10:40]
    assert 0.05 < np.diff(inner, axis=2).std() < 0.2


def test_the_drawn_shift_is_uniform_and_up_to_its_share_of_the_side():
    centre = positions("shift", 0.2)[:, 25, 25]
    assert centre.min() == pytest.approx(-10, abs=0.1) and centre.max() == pytest.approx(10, abs=0.1)
    assert centre.std(axis=0) == pytest.approx([10 / np.sqrt(3)] * 2, rel=0.05)


def test_only_the_wanted_share_of_the_patches_is_moved():
    images = np.random.default_rng(0).random((400, 16, 16, 1)).astype(np.float32)
    aligned = (images > 0.5).astype(np.uint8)
    some = replace(OFF, rotation=180, shift=0.1, moved_share=0.25)
    moved, along = augment(images, aligned, some, np.random.default_rng(2), ONE_CHANNEL)
    same = (moved == images).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(same, (along == aligned).all(axis=(1, 2, 3)))
    assert 260 < same.sum() < 340
    # With a share of 0, no patch is moved, and none is an error.
    none = replace(some, moved_share=0)
    np.testing.assert_array_equal(
        augment(images, aligned, none, np.random.default_rng(2), ONE_CHANNEL)[0], images
    )


def test_illumination_is_smooth_within_its_bounds_and_for_intensity_channels_only():
    images = np.random.default_rng(0).uniform(0.1, 0.5, (300, 32, 32, 3)).astype(np.float32)
    aligned = np.random.default_rng(1).integers(2, size=(300, 32, 32, 2), dtype=np.uint8)
    intensity = np.array([True, False, True])
    light = replace(OFF, illumination=0.5)
    changed, along = augment(images, aligned, light, np.random.default_rng(2), intensity)
    np.testing.assert_array_equal(along, aligned)
    np.testing.assert_array_equal(changed[..., 1], images[..., 1])
    logs = np.log(changed / images)
    np.testing.assert_allclose(logs[..., 0], logs[..., 2], atol=1e-5)
    assert -0.501 < logs[..., 0].min() < -0.48 and 0.48 < logs[..., 0].max() < 0.501
    assert abs(np.diff(logs[..., 0], axis=1)).max() < 0.2 and logs[..., 0].std(axis=(1, 2)).min() > 0.02


def test_gamma_and_contrast_change_intensity_channels_only():
    images = np.random.default_rng(0).random((20, 8, 8, 2)).astype(np.float32)
    aligned = np.zeros((20, 8, 8, 1), np.uint8)
    jitter = replace(OFF, gamma_jitter=0.5, contrast_jitter=0.5)
    changed, _ = augment(images, aligned, jitter, np.random.default_rng(2), np.array([False, True]))
    np.testing.assert_array_equal(changed[..., 0], images[..., 0])
    assert (changed[..., 1] != images[..., 1]).mean() > 0.9


def test_half_of_the_patches_are_blurred_as_by_scipy():
    images = np.random.default_rng(0).random((200, 24, 24, 2)).astype(np.float32)
    aligned = np.random.default_rng(1).integers(2, size=(200, 24, 24, 2), dtype=np.uint8)
    blur = replace(OFF, blur=1.5)
    changed, along = augment(images, aligned, blur, np.random.default_rng(2), np.array([True, False]))
    np.testing.assert_array_equal(along, aligned)
    drawn = np.random.default_rng(2)
    chosen, sigmas = drawn.random(200) < 0.5, (1 - drawn.random(200)) * 1.5
    assert 70 < chosen.sum() < 130
    np.testing.assert_array_equal(changed[~chosen], images[~chosen])
    for index in np.flatnonzero(chosen):
        expected = ndimage.gaussian_filter(images[index], (sigmas[index], sigmas[index], 0), mode="mirror")
        np.testing.assert_allclose(changed[index], expected, atol=5e-3)


def test_noise_is_gaussian_with_a_random_deviation_up_to_the_largest():
    images = np.full((400, 32, 32, 2), 0.5, np.float32)
    aligned = np.ones((400, 32, 32, 2), np.uint8)
    noise = replace(OFF, noise=0.1)
    changed, along = augment(images, aligned, noise, np.random.default_rng(2), np.array([True, False]))
    np.testing.assert_array_equal(along, aligned)
    assert changed.dtype == np.float32 and changed.min() >= 0 and changed.max() <= 1
    deviations = changed.std(axis=(1, 2))
    assert deviations.max() < 0.107 and deviations.min() < 0.002
    assert deviations.mean() == pytest.approx(0.05, rel=0.1)
    np.testing.assert_allclose(deviations[:, 0], deviations[:, 1], rtol=0.2)
    first, second = (changed[..., i].ravel() - 0.5 for i in range(2))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02 and abs(first.mean()) < 1e-3


def test_the_generator_alone_decides_and_the_given_arrays_stay_as_they_are():
    images = smooth_images(5, 24, 24, 3)
    aligned = (images[..., :2] > 0.5).astype(np.uint8)
    before = images.copy(), aligned.copy()
    runs = [
        augment(images, aligned, ALL, np.random.default_rng(seed), np.array([True, True, False]))
        for seed in (8, 8, 9)
    ]
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    np.testing.assert_array_equal(runs[0][1], runs[1][1])
    assert (runs[0][0] != runs[2][0]).mean() > 0.5
    assert runs[0][0].dtype == np.float32 and runs[0][0].min() >= 0 and runs[0][0].max() <= 1
    np.testing.assert_array_equal(images, before[0])
    np.testing.assert_array_equal(aligned, before[1])


def test_what_comes_from_outside_has_the_given_value_in_each_channel():
    images = np.full((6, 16, 16, 5), 0.5, np.float32)
    outside = np.linspace(0, 1, 5, dtype=np.float32)
    shifted = replace(OFF, shift=0.5)
    generator = np.random.default_rng(1)
    moved, along = augment(images, np.ones((6, 16, 16, 1)), shifted, generator, np.ones(5, bool), outside)
    beyond = np.all(np.abs(moved - outside) < 1e-6, axis=-1)
    assert beyond.any() and not along[beyond].any()
    np.testing.assert_allclose(moved[along[..., 0] > 0][:, 2], 0.5, atol=1e-6)
    assert moved.dtype == np.float32
