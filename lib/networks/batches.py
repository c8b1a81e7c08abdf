"""How many patches a network computes at once: the fastest number, and half of it when memory runs out."""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from lib.configuration.sections import TestingSettings
from lib.runtime.errors import UserError, is_out_of_memory


def with_batch_size(
    predict: Callable[[np.ndarray], np.ndarray], settings: TestingSettings
) -> TestingSettings:
    """The settings with `test_batch_size = auto` as a number: the fastest here."""
    if settings.test_batch_size != "auto":
        return settings
    patch = (settings.test_patch_height, settings.test_patch_width)
    in_patches = settings.window in {"overlap", "side_by_side"}
    size = (
        fastest_batch_size(lambda number: predict(np.zeros((number, *patch, 1), np.float32)))
        if in_patches
        else 1
    )
    return replace(settings, test_batch_size=size)


class HalfBatchRetry:
    """A network's `predict` that halves its batches, once, where memory is short of whole ones."""

    def __init__(self, predict: Callable[[np.ndarray], np.ndarray]) -> None:
        self._predict, self._parts = predict, 1

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """As `predict`: (N, h, w, 1) float32 in [0, 1] to probabilities of the same shape.

        Raises:
            UserError: there is no memory for half a batch, or for a single image.
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
        print(f"not enough memory for {at_once}: batches are halved")
        self._parts = 2
        return self(images)


SIZES = tuple(2**n for n in range(2, 13))
"""4 to 4096."""


LEAST_GAIN = 1.1
"""What doubling a batch must add to the patches a second; less is noise, and costs memory."""


def fastest_batch_size(compute: Callable[[int], object]) -> int:
    """The batch after which doubling no longer pays, or which is the last that fits into memory.

    Args:
        compute: computes so many patches, and returns when it has.

    Raises:
        UserError: there is no memory for the least of `SIZES`.
    """
    best, best_rate = 0, 0.0
    for size in SIZES:
        try:
            compute(size)  # traces and compiles
            rate = size / min(_seconds(compute, size) for _ in range(3))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            break
        if rate < LEAST_GAIN * best_rate:
            break
        best, best_rate = size, rate
    if not best:
        raise UserError(f"not enough memory for {SIZES[0]} patches at once: choose smaller patches")
    return best


def _seconds(compute: Callable[[int], object], size: int) -> float:
    started = time.perf_counter()
    compute(size)
    return time.perf_counter() - started
