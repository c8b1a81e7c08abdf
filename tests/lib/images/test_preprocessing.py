import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from lib.configuration.reading import read_configuration
from lib.images.preprocessing import (
    field_of_view_diameter,
    gamma_table,
    intensity_channels,
    is_in_colour,
    local_contrast,
    network_input,
    network_shape,
    neutral_levels,
    normalise_locally,
    preprocess,
    preprocessing_steps,
    resample,
    resample_mask,
    standardise,
    texture,
)
from lib.runtime.paths import DEFAULT_CONFIGURATION

DEFAULT = read_configuration(DEFAULT_CONFIGURATION).preprocessing
RETINA_UNET = dataclasses.replace(DEFAULT, gamma=1.2)


def photograph(seed: int = 0, shape=(70, 90, 3)) -> np.ndarray:
    noise = np.random.default_rng(seed).random(shape).astype(np.float32)
    return (cv2.GaussianBlur(noise, (0, 0), 4) * 220).astype(np.uint8)


def retina_unet_preprocessing(images: list[np.ndarray]) -> list[np.ndarray]:
    """my_PreProc of orobix/retina-unet, in the same order, written from its description."""
    grey = np.stack([i[..., 0] * 0.299 + i[..., 1] * 0.587 + i[..., 2] * 0.114 for i in images])
    normalised = (grey - grey.mean()) / grey.std()
    out = []
    for image in normalised:
        stretched = (image - image.min()) / (image.max() - image.min()) * 255
        equalised = cv2.createCLAHE(2.0, (8, 8)).apply(stretched.astype(np.uint8))
        table = np.array([((i / 255.0) ** (1 / 1.2)) * 255 for i in range(256)]).astype(np.uint8)
        out.append(cv2.LUT(equalised, table))
    return out


def test_pixel_values_equal_those_of_retina_unet():
    images = [photograph(1), photograph(2) // 2]
    whole = np.ones(images[0].shape[:2], np.uint8)
    for image, expected in zip(images, retina_unet_preprocessing(images), strict=True):
        found = preprocess(image, whole, RETINA_UNET)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected[..., None])


def test_a_constant_image_becomes_zero_without_a_warning():
    constant = np.full((20, 20), 77, np.uint8)
    assert not standardise(constant.astype(float)).any()
    assert np.ptp(preprocess(constant, np.ones_like(constant), DEFAULT)) == 0


@given(st.floats(0.2, 5), st.floats(0, 0.5))
def test_the_gamma_table_is_monotonic_and_does_not_overflow(exponent, epsilon):
    table = gamma_table(exponent, epsilon)
    assert (np.diff(table.astype(int)) >= 0).all()
    assert table[255] == 255


def test_gamma_below_one_darkens_in_the_inverse_convention_and_brightens_in_the_direct():
    plain = dataclasses.replace(DEFAULT, clahe_clip_limit=0)
    image, whole = photograph(3)[..., 0], np.ones((70, 90), np.uint8)
    inverse = preprocess(image, whole, plain).mean()
    direct = preprocess(image, whole, dataclasses.replace(plain, gamma_exponent="direct")).mean()
    none = preprocess(image, whole, dataclasses.replace(plain, gamma=1.0)).mean()
    assert inverse < none - 3 < none + 3 < direct


def test_hand_worked_gamma():
    table = gamma_table(2.0, 0.1)
    assert table[0] == 2  # 255 * 0.01 = 2.55
    assert table[51] == 22  # 255 * 0.3 ** 2 = 22.95


@pytest.mark.parametrize(("channel", "index"), [("red", 0), ("green", 1), ("blue", 2)])
def test_a_single_channel_can_be_selected(channel, index):
    settings = dataclasses.replace(DEFAULT, channel=channel)
    image, whole = photograph(4), np.ones((70, 90), np.uint8)
    alone = preprocess(np.ascontiguousarray(image[..., index]), whole, settings)
    np.testing.assert_array_equal(preprocess(image, whole, settings), alone)


def test_local_normalisation_does_not_depend_on_exposure_or_surround():
    grey = photograph(5)[..., 0].astype(float)
    inside = np.zeros(grey.shape, np.uint8)
    inside[10:60, 10:80] = 1
    found = normalise_locally(grey, inside, 5.0)
    brighter = normalise_locally(grey * 1.5 + 30, inside, 5.0)
    bright_surround = normalise_locally(np.where(inside, grey, 250), inside, 5.0)
    np.testing.assert_allclose(found, brighter, atol=4)
    np.testing.assert_allclose(found, bright_surround, atol=1e-6)
    assert not found[inside == 0].any()


def test_network_input_spans_zero_to_one():
    found = network_input(np.array([[0, 255]], np.uint8))
    assert found.dtype == np.float32
    assert found.tolist() == [[0.0, 1.0]]


def circle(side: int, diameter: float) -> np.ndarray:
    rows, columns = np.ogrid[:side, :side]
    return (np.hypot(rows - side / 2 + 0.5, columns - side / 2 + 0.5) < diameter / 2).astype(np.uint8)


def test_the_diameter_is_the_larger_side_of_the_field_of_view():
    mask = np.zeros((50, 60), np.uint8)
    assert field_of_view_diameter(mask) == 60  # an empty field of view
    mask[5:25, 10:51] = 1
    assert field_of_view_diameter(mask) == 41
    assert network_shape(mask, DEFAULT) == (50, 60)
    twice = dataclasses.replace(DEFAULT, field_of_view_diameter=82)
    assert network_shape(mask, twice) == (100, 120)


@pytest.mark.parametrize(
    ("diameter", "shape"), [(489, (587, 548)), (491, (600, 560)), (509, (600, 560)), (511, (613, 572))]
)
def test_an_image_is_not_resampled_for_a_change_of_size_below_two_percent(diameter, shape):
    mask = np.zeros((600, 560), np.uint8)
    mask[50:550, 30:530] = 1
    settings = dataclasses.replace(DEFAULT, field_of_view_diameter=diameter)
    assert network_shape(mask, settings) == shape
    original = np.random.default_rng(0).integers(0, 256, mask.shape, np.uint8)
    unchanged = np.array_equal(preprocess(original, mask, settings), preprocess(original, mask, DEFAULT))
    assert unchanged == (shape == mask.shape)


@pytest.mark.parametrize("side", range(300, 540, 20))
def test_no_value_is_outside_the_range_of_the_image(side):
    assert resample(np.ones((540, 540), np.float32), (side, side)).max() == 1  # OpenCV gives 1.0000001


def test_a_smaller_image_has_the_means_over_the_areas_of_its_pixels():
    image = np.random.default_rng(0).random((12, 18))
    expected = image.reshape(4, 3, 6, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(resample(image, (4, 6)), expected, atol=1e-6)
    mask = (image > 0.4).astype(np.uint8)
    shares = mask.reshape(4, 3, 6, 3).mean(axis=(1, 3))
    np.testing.assert_array_equal(resample_mask(mask, (4, 6)), shares >= 0.5)
    assert resample(image, image.shape) is image


@pytest.mark.parametrize("shape", [(30, 45), (40, 60), (80, 120), (140, 210)])
def test_resampling_to_another_size_and_back_shifts_nothing(shape):
    rows, columns = np.mgrid[:80, :120]
    ramp = (rows * 2.0 + columns).astype(np.float32)
    there_and_back = resample(resample(ramp, shape), ramp.shape)
    inner = (slice(5, -5), slice(5, -5))  # a ramp is cut at the border
    # A shift by half a pixel would be 1.5.
    np.testing.assert_allclose(there_and_back[inner], ramp[inner], atol=0.2)


def test_channels_are_in_the_given_order_at_the_size_of_the_network():
    names = ("texture", "grey", "preprocessed", "local_contrast")
    settings = dataclasses.replace(DEFAULT, channels=names, field_of_view_diameter=48)
    image, view = photograph(7, (96, 96, 3)), circle(96, 80)
    levels = preprocess(image, view, settings)
    assert levels.shape == (58, 58, 4) and levels.dtype == np.uint8  # 96 * 48 / 80 = 57.6
    for index, name in enumerate(names):
        alone = preprocess(image, view, dataclasses.replace(settings, channels=(name,)))
        np.testing.assert_array_equal(levels[..., [index]], alone)
    titles = [title for title, _ in preprocessing_steps(image, view, settings)]
    assert titles == ["texture", "grey", "grey", "standardised", "CLAHE", "gamma 0.8", "local contrast"]
    assert intensity_channels(settings).tolist() == [True, True, True, False]
    assert neutral_levels(settings).tolist() == [0, 0, 0, 128]


def test_the_grey_channel_is_the_stored_grey_image():
    settings = dataclasses.replace(DEFAULT, channels=("grey",))
    image = photograph(8)[..., 1]
    np.testing.assert_array_equal(preprocess(image, np.ones_like(image), settings)[..., 0], image)


def test_the_colours_of_a_photograph_are_channels_in_the_given_order():
    image, view = photograph(8, (60, 70, 3)), np.ones((60, 70), np.uint8)
    settings = dataclasses.replace(DEFAULT, channels=("blue", "red", "green"), channel="green")
    np.testing.assert_array_equal(preprocess(image, view, settings), image[..., [2, 0, 1]])
    of_grey = preprocess(image[..., 0], view, settings)
    np.testing.assert_array_equal(of_grey, np.repeat(image[..., :1], 3, axis=-1))
    green = dataclasses.replace(DEFAULT, channels=("green",))
    np.testing.assert_array_equal(preprocess(image, view, green), image[..., 1:2])
    assert intensity_channels(settings).all() and not neutral_levels(settings).any()


def masked_gaussian(image: np.ndarray, inside: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian-weighted mean over the pixels inside, by SciPy in float64."""
    sums, weights = (gaussian_filter(a, sigma, mode="mirror", truncate=5) for a in (image * inside, inside))
    return sums / np.maximum(weights, 1e-12)


def test_local_contrast_is_the_distance_from_the_local_mean_in_standard_deviations():
    view = circle(768, 740)
    grey = photograph(9, (768, 768)).astype(float)
    inside, sigma = view.astype(float), 24 * 740 / 512
    centred = grey - masked_gaussian(grey, inside, sigma)
    deviation = np.sqrt(masked_gaussian(centred**2, inside, sigma))
    expected = np.clip(centred / deviation / 6 + 0.5, 0, 1) * 255
    found = local_contrast(grey, view)
    assert found.dtype == np.float32
    # The difference comes from the reduced image in which mean and deviation are computed.
    difference = np.abs(found - expected)[view > 0]
    assert difference.max() < 4 and difference.mean() < 0.5
    assert (found[view == 0] == 128).all()


def test_texture_is_the_local_root_mean_square_of_the_fine_structures():
    view = circle(256, 250)
    grey = photograph(10, (256, 256)).astype(float) + np.random.default_rng(0).normal(0, 6, (256, 256))
    inside, scale = view.astype(float), 250 / 512
    fine = grey - masked_gaussian(grey, inside, 2 * scale)
    rms = np.sqrt(masked_gaussian(fine**2, inside, 4 * scale))
    expected = 255 * np.sqrt(np.minimum(rms / 32, 1)) * inside
    np.testing.assert_allclose(texture(grey, view), expected, atol=0.6)


@pytest.mark.parametrize("channel", ["grey", "local_contrast", "texture"])
def test_an_image_of_a_smaller_angle_has_the_scale_of_the_training(channel):
    settings = dataclasses.replace(DEFAULT, channels=(channel,), field_of_view_diameter=180)
    image = photograph(14, (384, 384))
    whole = preprocess(image, circle(384, 360), settings)
    # A camera that shows the inner two thirds of the angle.
    smaller = preprocess(image[64:320, 64:320], circle(256, 240), settings, relative_angle=2 / 3)
    assert smaller.shape == (128, 128, 1)
    difference = np.abs(smaller[44:84, 44:84].astype(int) - whole[76:116, 76:116])
    assert difference.max() <= (2 if channel == "local_contrast" else 0)


def test_the_tiles_of_clahe_have_the_angle_of_the_training():
    image, view = photograph(15), np.ones((80, 90), np.uint8)
    three = dataclasses.replace(DEFAULT, clahe_tile_grid=3)
    two = dataclasses.replace(DEFAULT, clahe_tile_grid=2)
    found = preprocess(image, view, three, relative_angle=30 / 45)
    np.testing.assert_array_equal(found, preprocess(image, view, two))


@pytest.mark.parametrize("channel", ["local_contrast", "texture"])
def test_channels_of_local_statistics_do_not_depend_on_the_surround(channel):
    settings = dataclasses.replace(DEFAULT, channels=(channel,), field_of_view_diameter=100)
    view = circle(220, 200)
    image = photograph(11, (220, 220)) // 2 + np.random.default_rng(0).integers(80, size=view.shape)
    dark, bright = (preprocess(np.where(view, image, s).astype(np.uint8), view, settings) for s in (0, 255))
    np.testing.assert_array_equal(dark, bright)
    assert np.ptp(dark) > 10


def test_texture_is_measured_before_the_image_is_reduced():
    stripes = np.zeros((256, 256), np.uint8)
    stripes[:, ::2] = 20  # a mean over two columns removes them
    settings = dataclasses.replace(DEFAULT, channels=("grey", "texture"), field_of_view_diameter=128)
    levels = preprocess(stripes, np.ones_like(stripes), settings)
    assert np.ptp(levels[8:-8, 8:-8, 0]) == 0
    assert abs(levels[8:-8, 8:-8, 1].astype(int) - 255 * np.sqrt(10 / 32)).max() < 12


def test_photographs_are_in_colour_and_angiograms_with_noisy_colours_are_not():
    grey = photograph(shape=(70, 90))
    inside = np.zeros((70, 90), np.uint8)
    inside[10:60, 10:80] = 1
    rgb = np.repeat(grey[..., None], 3, axis=2)
    noisy = np.clip(rgb + np.random.default_rng(0).integers(-5, 6, rgb.shape), 0, 255).astype(np.uint8)
    retina = (rgb * [1, 0.5, 0.2]).astype(np.uint8)
    outside = np.where(inside[..., None] > 0, rgb, retina)
    found = [is_in_colour(image, inside) for image in (grey, rgb, noisy, outside, retina, rgb * 0)]
    assert found == [False, False, False, False, True, False]
    assert not is_in_colour(retina, inside * 0)
