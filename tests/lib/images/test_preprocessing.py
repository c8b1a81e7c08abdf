import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.configuration.reading import read_configuration
from lib.images.preprocessing import gamma_table, network_input, normalise_locally, preprocess, standardise
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
        np.testing.assert_array_equal(found, expected)


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
