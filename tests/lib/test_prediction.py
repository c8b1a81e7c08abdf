import dataclasses

import keras
import numpy as np
import pytest

from lib.command_line import DEFAULT_CONFIGURATION
from lib.configuration import read_configuration
from lib.prediction import predict_image

SETTINGS = dataclasses.replace(
    read_configuration(DEFAULT_CONFIGURATION).testing_settings,
    test_patch_height=16,
    test_patch_width=24,
    stride_height=7,
    stride_width=10,
    test_batch_size=5,
)


def pointwise() -> keras.Model:
    """A network that sees single pixels, so that patches cannot matter."""
    image = keras.Input((None, None, 1))
    layer = keras.layers.Conv2D(1, 1, activation="sigmoid", kernel_initializer="ones")
    return keras.Model(image, layer(image))


@pytest.mark.parametrize("shape", [(40, 61), (16, 24), (5, 90), (3, 4)])
@pytest.mark.parametrize("average", [True, False])
def test_patches_of_any_image_give_the_image_in_one_piece(shape, average):
    levels = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    found = predict_image(pointwise(), levels, dataclasses.replace(SETTINGS, average_mode=average))
    assert found.shape == shape and found.dtype == np.float32
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-(levels / 255))), rtol=1e-5)


def test_every_pixel_is_the_mean_of_all_patches_over_it():
    image = keras.Input((None, None, 1))
    mean = keras.layers.GlobalAveragePooling2D(keepdims=True)(image)
    model = keras.Model(image, keras.layers.UpSampling2D((16, 24))(mean))
    levels = np.random.default_rng(1).integers(256, size=(30, 34), dtype=np.uint8)
    total, covered = np.zeros((2, 30, 34))
    for row in (0, 7, 14):
        for column in (0, 10):
            window = (slice(row, row + 16), slice(column, column + 24))
            total[window] += levels[window].mean() / 255
            covered[window] += 1
    np.testing.assert_allclose(predict_image(model, levels, SETTINGS), total / covered, rtol=1e-5)
