"""Batch size of a prediction or a training: the fastest one, and half of it when memory runs out."""

import timeit
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from lib.configuration.sections import TestingSettings
from lib.networks.trained_network import Predict
from lib.runtime.errors import UserError, is_out_of_memory

BATCH_SIZES = tuple(2**n for n in range(2, 13))
"""Sizes that are tried: 4 to 4096."""

LEAST_GAIN = 1.1
"""A batch of twice the size must give this many times the patches a second: it needs more memory."""


def fastest_batch_size(compute: Callable[[int], object]) -> int:
    """Double the batch size as long as that makes it faster and memory is sufficient.

    Args:
        compute: computes a batch of the given number of patches, and returns when it has finished.

    Raises:
        UserError: there is not enough memory for the smallest of `BATCH_SIZES`.
    """
    best, best_rate = 0, 0.0
    for size in BATCH_SIZES:
        try:
            compute(size)  # not timed: the first call traces and compiles
            rate = size / min(timeit.repeat(partial(compute, size), number=1, repeat=3))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            break
        if rate < LEAST_GAIN * best_rate:
            break
        best, best_rate = size, rate
    if not best:
        least = BATCH_SIZES[0]
        raise UserError(f"not enough memory for {least} patches at once: choose smaller patches")
    return best


def with_batch_size(predict: Predict, settings: TestingSettings, channels: int) -> TestingSettings:
    """The settings with the fastest batch size instead of `test_batch_size = auto`.

    `channels` is the number of channels of the network's input.
    """
    if settings.test_batch_size != "auto":
        return settings
    size, patch = 1, (settings.test_patch_height, settings.test_patch_width)
    if settings.window in {"overlap", "side_by_side"}:
        size = fastest_batch_size(lambda n: predict(np.zeros((n, *patch, channels), np.float32)))
    return replace(settings, test_batch_size=size)


class HalfBatchRetry:
    """Predict; when memory runs out, try again with half the batch, and use half batches from then on."""

    def __init__(self, predict: Predict) -> None:
        self._predict, self._parts = predict, 1

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Probabilities (N, h, w, M) of (N, h, w, C) float32 images in [0, 1].

        Raises:
            UserError: there is not enough memory for half a batch, or for a single image.
        """
        number, height, width, _ = images.shape
        parts = min(self._parts, number)
        try:
            return np.concatenate([self._predict(p) for p in np.array_split(images, parts)])
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        at_once = f"{-(-number // parts)} of {width}x{height} pixels at once"
        if parts == min(2, number):
            raise UserError(
                f"not enough memory for {at_once}: lower [testing settings] test_batch_size, choose window "
                "= tiles with a smaller tile_size, or end other programs that use the memory"
            )
        print(f"not enough memory for {at_once}: using half the batch size")
        self._parts = 2
        return self(images)
