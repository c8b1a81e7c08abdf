"""Pixels of many images, sorted by score; the memory does not grow with the number of images."""

import weakref
from collections.abc import Iterable, Iterator
from tempfile import SpooledTemporaryFile
from typing import NamedTuple

import numpy as np

SORTED_TOGETHER = 2**21
"""Pixels that are sorted together; for each range of so many pixels, all pixels are read once."""

IN_MEMORY = 2**24
"""Bytes, four per pixel; if there are more, all go to a temporary file."""

BIN_BITS, BINS = 15, 2**16
"""Number of bins, and bits of a key inside its bin; pixels are sorted in ranges of bins."""


class Counted(NamedTuple):
    """Number of pixels for each distinct score, in ascending order; all arrays are (scores,).

    Attributes:
        scores: float32.
        negatives: int64, negative pixels with that score.
        positives: int64, positive pixels with that score.
        false_positives: int64, negative pixels with at least that score.
        true_positives: int64, positive pixels with at least that score.
    """

    scores: np.ndarray
    negatives: np.ndarray
    positives: np.ndarray
    false_positives: np.ndarray
    true_positives: np.ndarray


class PooledPixels:
    """Scores with their truth. Each pixel is stored as one integer: the bits of the score, then the label.

    The bits of floats >= 0, read as integers, have the same order as the floats.

    Attributes:
        negatives: number of negative pixels.
        positives: number of positive pixels.
    """

    def __init__(self, images: Iterable[tuple[np.ndarray, np.ndarray]] = ()) -> None:
        self.negatives = self.positives = 0
        self._keys = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115, open as long as this object exists
        weakref.finalize(self, self._keys.close)
        for scores, truth in images:
            self.add(scores, truth)

    def add(self, scores: np.ndarray, truth: np.ndarray) -> None:
        """Add the pixels of an image.

        Args:
            scores: in [0, 1], of any shape; stored as float32.
            truth: {0, 1}, of the same shape.

        Raises:
            ValueError: a score is not in [0, 1].
        """
        scores, labels = np.ravel(scores).astype(np.float32), np.ravel(truth) > 0
        if not ((scores >= 0) & (scores <= 1)).all():
            raise ValueError("expected scores in [0, 1]")
        positives = int(np.count_nonzero(labels))
        self.positives += positives
        self.negatives += labels.size - positives
        bits = np.abs(scores).view(np.uint32)  # -0.0 becomes 0.0
        self._keys.write((bits << 1) | labels)

    def at_least(self, threshold: float) -> tuple[int, int]:
        """Number of negative and of positive pixels whose score is at least the threshold, as float32."""
        lowest = np.float32(max(threshold, 0)).view(np.uint32) << np.uint32(1)
        pixels = positives = 0
        for keys in self._read():
            above = keys[keys >= lowest]
            pixels += above.size
            positives += int(np.count_nonzero(above & 1))
        return pixels - positives, positives

    def by_score(self) -> Iterator[Counted]:
        """Yield ranges of scores in ascending order."""
        remaining = np.array([self.negatives, self.positives])
        for first, last in self._ranges():
            keys, counts = self._counted(first, last)
            if not keys.size:
                continue
            starts = np.flatnonzero(np.diff(keys >> 1, prepend=keys[0] >> 1 ^ 1))
            positives = np.add.reduceat(counts * (keys & 1), starts)
            negatives = np.add.reduceat(counts, starts) - positives
            found = np.stack([negatives, positives])
            reached = remaining[:, None] - np.cumsum(found, axis=1) + found
            yield Counted((keys[starts] >> 1).view(np.float32), *found, *reached)
            remaining = remaining - found.sum(axis=1)

    def _counted(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Distinct keys of the bins from `first` to before `last`, uint32, ascending, and their numbers."""
        low, high = first << BIN_BITS, last << BIN_BITS
        parts = (keys[(keys >= low) & (keys < high)] for keys in self._read())
        if last - first > 1:
            return np.unique(np.concatenate([*parts, np.empty(0, np.uint32)]), return_counts=True)
        # A single bin may have any number of pixels.
        in_bin = (np.bincount(keys - np.uint32(low), minlength=2**BIN_BITS) for keys in parts)
        counts = sum(in_bin, np.zeros(2**BIN_BITS, np.int64))
        found = np.flatnonzero(counts)
        return (found + low).astype(np.uint32), counts[found]

    def _ranges(self) -> list[tuple[int, int]]:
        """Ranges of at most `SORTED_TOGETHER` pixels or of one bin: first bin, and the bin after the last."""
        if self.negatives + self.positives <= SORTED_TOGETHER:
            return [(0, BINS)]
        in_bins = (np.bincount(keys >> BIN_BITS, minlength=BINS) for keys in self._read())
        counts = sum(in_bins, np.zeros(BINS, np.int64))
        starts, pixels = [0], 0
        for index, count in enumerate(counts.tolist()):
            if index and pixels + count > SORTED_TOGETHER:
                starts.append(index)
                pixels = 0
            pixels += count
        return list(zip(starts, [*starts[1:], BINS], strict=True))

    def _read(self) -> Iterator[np.ndarray]:
        self._keys.seek(0)
        while content := self._keys.read(4 * SORTED_TOGETHER):
            yield np.frombuffer(content, np.uint32)
