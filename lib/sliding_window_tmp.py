"""Images predicted window by window, and put together again."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


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
