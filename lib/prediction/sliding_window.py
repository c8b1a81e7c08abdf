"""Images predicted window by window, and put together again."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lib.configuration.sections import TestingSettings
from lib.images.preprocessing import network_input


def window_starts(size: int, patch: int, stride: int) -> np.ndarray:
    """Where windows start along one side, so that every pixel is covered.

    Every `stride` pixels, and one more flush with the end where a remainder is left; `size` is at
    least `patch`, and `stride` at most `patch`.
    """
    starts = np.arange(0, size - patch + 1, stride)
    return starts if starts[-1] == size - patch else np.append(starts, size - patch)


def spread_starts(size: int, patch: int, stride: int) -> np.ndarray:
    """Where windows start along one side: steps of at most `stride`, all alike, the ends met exactly.

    nnU-Net's way (Isensee et al., Nature Methods 18, 2021): no pixel is covered more often than need be.
    """
    steps = -(-(size - patch) // stride)
    return np.linspace(0, size - patch, steps + 1).round().astype(int)


class Recomposition:
    """Adds up overlapping patches of one image; `mean` is the image again.

    Args:
        shape: height and width of the image.
        patch: height and width of a patch.
        stride: steps down and to the right, at most the patch's size.
        tiles: weigh patches by a Gaussian (an eighth of a patch wide, as nnU-Net does) and spread them
            evenly, instead of `stride` pixels apart and all pixels alike.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        patch: tuple[int, int],
        stride: tuple[int, int],
        *,
        tiles: bool = False,
    ) -> None:
        self.shape, self.patch = shape, patch
        self.padded = tuple(max(s, p) for s, p in zip(shape, patch, strict=True))
        starts = spread_starts if tiles else window_starts
        sides = [starts(*side) for side in zip(self.padded, patch, stride, strict=True)]
        grid = np.meshgrid(*sides, indexing="ij")
        self.starts = np.stack([g.ravel() for g in grid], axis=1)
        self._sum = np.zeros(self.padded, np.float32)
        # Weights of a pixel, and how much covers it, are products of its row's and its column's.
        weights = [_gaussian(p) if tiles else np.ones(p) for p in patch]
        covers = [
            np.sum([np.pad(w, (at, s - at - w.size)) for at in ats], axis=0)
            for s, w, ats in zip(self.padded, weights, sides, strict=True)
        ]
        self._weights = np.outer(*weights).astype(np.float32)
        self._covered = np.outer(*covers).astype(np.float32)

    def extract(self, image: np.ndarray, chosen: slice = slice(None)) -> np.ndarray:
        """(n, *patch) of `image` (H, W) at the chosen window numbers, padded by its edge if too small."""
        margins = [(0, p - s) for s, p in zip(self.shape, self.padded, strict=True)]
        windows = sliding_window_view(np.pad(image, margins, mode="edge"), self.patch)
        return windows[tuple(self.starts[chosen].T)]

    def add(self, patches: np.ndarray, chosen: slice = slice(None)) -> None:
        """Add predicted patches (n, *patch) at the chosen window numbers."""
        height, width = self.patch
        for (row, column), patch in zip(self.starts[chosen], patches, strict=True):
            self._sum[row : row + height, column : column + width] += self._weights * patch

    @property
    def mean(self) -> np.ndarray:
        """(H, W) float32: the weighted mean of all patches over each pixel, once all have been added."""
        height, width = self.shape
        return (self._sum / self._covered)[:height, :width]


def _gaussian(size: int) -> np.ndarray:
    """(size,) of 1 in the middle; at the rim .0003, so that each pixel counts where it is alone."""
    return np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / (size / 8)) ** 2)


MIRRORS = ((), (0,), (1,), (0, 1))
"""Axes along which an image is turned over for `tta`."""


def predict_image(
    predict: Callable[[np.ndarray], np.ndarray], levels: np.ndarray, settings: TestingSettings
) -> np.ndarray:
    """Predict a whole image by the window that the settings choose, with `tta` also mirrored.

    Args:
        predict: (N, h, w, 1) float32 in [0, 1] to probabilities of the same shape.
        levels: (H, W) uint8, preprocessed; any size, also smaller than a patch.
        settings: window, size and strides of patches, batch size, tiles, tta.

    Returns:
        (H, W) float32.
    """
    predicted = [
        np.flip(_windows_predicted(predict, np.flip(levels, axes), settings), axes)
        for axes in (MIRRORS if settings.tta else MIRRORS[:1])
    ]
    return np.mean(predicted, axis=0, dtype=np.float32)


def _windows_predicted(
    predict: Callable[[np.ndarray], np.ndarray], levels: np.ndarray, settings: TestingSettings
) -> np.ndarray:
    if settings.window == "whole":
        whole = predict(network_input(np.ascontiguousarray(levels))[None, ..., None])
        return np.asarray(whole, np.float32)[0, ..., 0]
    if settings.window == "tiles":
        sides = (
            tile_size_and_step(size, settings.tile_size, settings.tile_overlap)
            for size in levels.shape
        )
        patch, stride = zip(*sides, strict=True)
    else:
        patch = (settings.test_patch_height, settings.test_patch_width)
        overlap = settings.window == "overlap"
        stride = (settings.stride_height, settings.stride_width) if overlap else patch
    tiles = settings.window == "tiles"
    recomposition = Recomposition(levels.shape, patch, stride, tiles=tiles)
    number = len(recomposition.starts)
    size = 1 if tiles else min(settings.test_batch_size, number)

    def predicted(chosen: slice) -> np.ndarray:
        windows = network_input(recomposition.extract(levels, chosen))[..., None]
        # The last batch is filled up, so that the network is traced for one shape.
        filled = np.concatenate([windows, np.zeros((size - len(windows), *patch, 1), np.float32)])
        return np.asarray(predict(filled), np.float32)[: len(windows), ..., 0]

    batches = [slice(start, start + size) for start in range(0, number, size)]
    for chosen, found in zip(batches, _two_at_once(predicted, batches), strict=True):
        recomposition.add(found, chosen)
    return recomposition.mean


def _two_at_once(
    predicted: Callable[[slice], np.ndarray], batches: Sequence[slice]
) -> Iterator[np.ndarray]:
    """What each batch gives, in order.

    A second batch is computed in what a first leaves idle of the processor. The very first is alone, as it
    has the network traced.
    """
    yield predicted(batches[0])
    under_way: deque[Future] = deque()
    with ThreadPoolExecutor(2) as pool:
        for batch in batches[1:]:
            under_way.append(pool.submit(predicted, batch))
            if len(under_way) > 2:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def tile_size_and_step(size: int, longest: int, overlap: int) -> tuple[int, int]:
    """Length and step of the tiles along a side of `size` pixels.

    As few tiles as possible of at most `longest` pixels that overlap by `overlap`, and these no longer than
    they need be: 768 pixels in tiles of at most 512 that overlap by 48 make two of 408.
    """
    number = max(1, -(-(size - overlap) // (longest - overlap)))
    length = -(-(size + (number - 1) * overlap) // number)
    return length, length - overlap if number > 1 else length
