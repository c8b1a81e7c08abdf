import keras
import numpy as np
import pytest
from scipy import ndimage

from models.drop_block import DropBlock


def dropped(rate, block_size, shape, draws=1, seed=0):
    """Masks (draws, H, W) of the pixels dropped from maps of ones, and the maps."""
    keras.utils.set_random_seed(seed)
    layer = DropBlock(rate, block_size)
    maps = keras.ops.convert_to_numpy(layer(np.ones((draws, *shape), np.float32), training=True))
    return maps[..., 0] == 0, maps


@pytest.mark.parametrize(("rate", "block_size"), [(0.1, 7), (0.3, 3), (0.2, 5)])
def test_the_share_of_dropped_pixels_is_the_rate_also_at_the_border(rate, block_size):
    mask, _ = dropped(rate, block_size, (40, 32, 2), draws=800)
    assert mask.mean() == pytest.approx(rate, rel=0.1)
    border = np.concatenate([mask[:, 0].ravel(), mask[:, -1].ravel(), mask[:, :, 0].ravel()])
    assert border.mean() == pytest.approx(rate, rel=0.1)


def test_the_sum_of_each_map_is_preserved():
    mask, maps = dropped(0.2, 5, (30, 30, 3), draws=50)
    assert mask.any(axis=(1, 2)).all()
    np.testing.assert_allclose(maps.sum(axis=(1, 2)), 900, rtol=1e-4)


def test_dropped_pixels_form_whole_squares():
    size = 5
    mask, _ = dropped(0.15, size, (60, 60, 1), draws=20)
    inner = mask[:, size:-size, size:-size]
    assert inner.any()
    for one in mask:
        framed = np.pad(one, size, constant_values=True)  # a square may reach over the border
        whole = ndimage.binary_opening(framed, np.ones((size, size)))[size:-size, size:-size]
        np.testing.assert_array_equal(whole, one)


def test_channels_of_a_map_lose_the_same_squares_and_maps_lose_different_ones():
    _, maps = dropped(0.2, 3, (20, 20, 4), draws=2)
    assert ((maps == 0).all(axis=-1) == (maps == 0).any(axis=-1)).all()
    assert not np.array_equal(maps[0], maps[1])


def test_a_map_without_a_kept_pixel_is_zero():
    _, maps = dropped(0.95, 9, (2, 2, 1), draws=200)
    assert np.isfinite(maps).all()
    assert (maps.sum(axis=(1, 2, 3)) == 0).any()


def test_inference_and_rate_zero_change_nothing():
    x = np.random.default_rng(0).random((2, 9, 9, 3), dtype=np.float32)
    for layer, training in ((DropBlock(0.5), False), (DropBlock(0.0), True)):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(x, training=training)), x)


def test_the_current_rate_may_be_lower_than_the_final_rate():
    layer = DropBlock(0.5, 3)
    layer.build((None, 20, 20, 1))
    layer.rate_now.assign(0.0)
    x = np.ones((4, 20, 20, 1), np.float32)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(x, training=True)), x)


def test_training_in_bfloat16_drops_at_the_same_rate():
    layer = DropBlock(0.05, 7, dtype="mixed_bfloat16")
    x = np.ones((400, 40, 32, 1), np.float32)
    maps = keras.ops.convert_to_numpy(keras.ops.cast(layer(x, training=True), "float32"))
    assert (maps == 0).mean() == pytest.approx(0.05, rel=0.1)
