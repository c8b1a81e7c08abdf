import keras
import numpy as np
import pytest

from models.dropout import Dropout, SpatialDropout

RATE = 0.2


def dropped(layer, shape=(40, 24, 18, 6)):
    keras.utils.set_random_seed(0)
    layer.build(shape)
    return keras.ops.convert_to_numpy(layer(np.ones(shape, np.float32), training=True))


@pytest.mark.parametrize("channels", [1, 4, 6])
def test_elements_are_dropped_evenly_at_the_rate_and_the_others_are_scaled_up(channels):
    maps = dropped(Dropout(RATE), (40, 24, 18, channels))
    assert (maps == 0).mean() == pytest.approx(51 / 256, abs=0.006)
    assert np.unique(maps).tolist() == pytest.approx([0, 256 / 205])
    for axes in ((0, 1, 2), (1, 2, 3), (0, 2, 3), (0, 1, 3)):  # all places are dropped equally often
        assert (maps == 0).mean(axis=axes) == pytest.approx(RATE, abs=0.07)


def test_neighbours_are_dropped_independently_of_each_other():
    lost = dropped(Dropout(0.5), (60, 30, 30, 4)) == 0
    for axis in range(4):  # four channels use the bytes of one random number
        ahead, behind = np.take(lost, range(1, 4), axis), np.take(lost, range(3), axis)
        assert (ahead & behind).mean() == pytest.approx(0.25, abs=0.02)


def test_whole_channels_are_dropped_and_different_ones_in_each_image():
    maps = dropped(SpatialDropout(RATE), (300, 3, 4, 20))
    assert np.array_equal(maps, np.broadcast_to(maps[:, :1, :1], maps.shape))
    assert np.unique(maps).tolist() == pytest.approx([0, 1 / 0.8])
    assert (maps[:, 0, 0] == 0).mean() == pytest.approx(RATE, abs=0.02)
    assert not np.array_equal(maps[0], maps[1])


@pytest.mark.parametrize("kind", [Dropout, SpatialDropout])
def test_elements_are_dropped_only_in_training_and_differently_each_time(kind):
    x = np.random.default_rng(0).standard_normal((4, 8, 8, 16), np.float32)
    layer = kind(RATE)
    np.testing.assert_array_equal(layer(x, training=False), x)
    np.testing.assert_array_equal(kind(0.0)(x, training=True), x)
    assert not np.array_equal(layer(x, training=True), layer(x, training=True))
    again = kind.from_config(layer.get_config())
    assert again.rate == RATE


@pytest.mark.parametrize("kind", [Dropout, SpatialDropout])
def test_the_random_state_determines_the_dropped_elements(kind):
    x, layer = np.ones((4, 8, 8, 16), np.float32), kind(RATE)
    state = keras.ops.convert_to_numpy(layer.seed_generator.state)
    first = keras.ops.convert_to_numpy(layer(x, training=True))
    layer.seed_generator.state.assign(state)
    np.testing.assert_array_equal(layer(x, training=True), first)
