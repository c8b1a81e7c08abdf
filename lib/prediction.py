"""The probability of non-perfusion for each pixel of a whole image, from overlapping patches."""

import keras
import numpy as np

from lib.configuration import TestingSettings
from lib.patches import Recomposition
from lib.preprocessing import network_input


def predict_image(model: keras.Model, levels: np.ndarray, settings: TestingSettings) -> np.ndarray:
    """Predict patches batch by batch and average them where they overlap.

    Args:
        model: one input channel, one output channel in [0, 1].
        levels: (H, W) uint8, preprocessed; any size, also smaller than a patch.
        settings: patch size, strides and batch size; `average_mode = False` lays patches side by side.

    Returns:
        (H, W) float32.
    """
    patch = (settings.test_patch_height, settings.test_patch_width)
    stride = (settings.stride_height, settings.stride_width) if settings.average_mode else patch
    recomposition = Recomposition(levels.shape, patch, stride)
    number = len(recomposition.starts)
    size = min(settings.test_batch_size, number)
    for start in range(0, number, size):
        chosen = slice(start, start + size)
        windows = network_input(recomposition.extract(levels, chosen))[..., None]
        # The last batch is filled up, so that the network is traced for one shape.
        filled = np.concatenate([windows, np.zeros((size - len(windows), *patch, 1), np.float32)])
        predicted = model.predict_on_batch(filled)[: len(windows), ..., 0]
        recomposition.add(np.asarray(predicted, np.float32), chosen)
    return recomposition.mean
