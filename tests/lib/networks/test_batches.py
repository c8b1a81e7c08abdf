import dataclasses
import time

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.configuration.reading import read_configuration
from lib.networks.batches import (
    LEAST_TILE,
    MOST_ACTIVATIONS,
    HalfBatchRetry,
    fastest_batch_size,
    with_tile_size,
)
from lib.runtime.errors import UserError
from lib.runtime.paths import DEFAULT_CONFIGURATION
from tests.hungry_layer import hungry


def device(overhead, each, memory=10**6):
    """A device with a time for each call and each patch in ms, and memory for so many patches."""

    def compute(size):
        if size > memory:
            raise MemoryError
        time.sleep((overhead + each * size) / 1000)

    return compute


def test_the_batch_size_grows_as_long_as_that_is_faster():
    # Patches a second, by batch: 4: 190, 8: 364, 16: 667, 32: 1143, 64: 1778, 128: 2462, 256: 3048, 512: 3459 ...
    assert fastest_batch_size(device(20, 0.25)) == 512
    assert fastest_batch_size(device(0, 2)) == 4


def test_the_batch_size_grows_only_as_far_as_memory_allows():
    assert fastest_batch_size(device(20, 0.25, memory=100)) == 64
    with pytest.raises(UserError, match="not enough memory for 4 patches"):
        fastest_batch_size(device(1, 1, memory=3))


def test_other_errors_during_the_measurement_are_raised():
    def broken(size):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fastest_batch_size(broken)


@pytest.fixture(scope="module")
def network():
    image = keras.Input((None, None, 1))
    return keras.Model(image, keras.layers.Conv2D(1, 3, padding="same")(image))


@pytest.fixture
def images():
    return np.random.default_rng(0).random((7, 8, 9, 1), np.float32)


def test_half_batches_are_used_after_memory_ran_out_once(network, images, capsys):
    predict = HalfBatchRetry(hungry(network, 4).predict_on_batch)
    expected = network.predict_on_batch(images)
    for _ in range(2):
        np.testing.assert_allclose(predict(images), expected, atol=1e-6)
    assert (
        capsys.readouterr().out
        == "not enough memory for 7 of 9x8 pixels at once: using half the batch size\n"
    )


@pytest.mark.parametrize(("number", "most", "stated"), [(7, 3, "4 of 9x8"), (1, 0, "1 of 9x8")])
def test_too_little_memory_for_half_a_batch_is_one_line(network, images, number, most, stated):
    predict = HalfBatchRetry(hungry(network, most).predict_on_batch)
    for _ in range(2):
        with pytest.raises(UserError, match=f"^not enough memory for {stated} pixels at once: lower .*$"):
            predict(images[:number])


def test_other_errors_during_the_prediction_are_raised(images):
    def predict(images):
        raise ValueError("channels")

    with pytest.raises(ValueError, match="channels"):
        HalfBatchRetry(predict)(images)


@given(st.integers(1, 20_000))
def test_tiles_of_auto_are_as_large_as_the_limit_of_memory_allows(bytes_per_pixel):
    settings = read_configuration(DEFAULT_CONFIGURATION).testing_settings
    side = with_tile_size(settings, lambda: bytes_per_pixel).tile_size
    assert side >= LEAST_TILE and (side + 1) ** 2 * bytes_per_pixel > MOST_ACTIVATIONS
    assert side == LEAST_TILE or side**2 * bytes_per_pixel <= MOST_ACTIVATIONS


def test_the_tiles_of_other_windows_stay_as_they_are():
    settings = read_configuration(DEFAULT_CONFIGURATION).testing_settings
    tiles = dataclasses.replace(settings, window="tiles")
    assert with_tile_size(tiles, lambda: 1) == tiles
