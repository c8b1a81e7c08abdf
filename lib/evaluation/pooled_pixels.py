"""The pixels of many images in order of their scores, in memory that does not grow with their number."""

import weakref
from collections.abc import Iterable, Iterator
from tempfile import SpooledTemporaryFile
from typing import NamedTuple

import numpy as np

AT_ONCE = 2**21
"""Pixels that are sorted together; all are gone through once for each so many of them."""

IN_MEMORY = 2**24
"""Bytes, four a pixel; more go to a temporary file."""

BIN_BITS, BINS = 15, 2**16
"""Pixels are sorted in ranges of bins, each of 2 ** BIN_BITS keys."""


class Counted(NamedTuple):
    """How many pixels have each of some scores, ascending, and how many have at least that; all (scores,).

    Attributes:
        scores: distinct, float32.
        negatives: with that score, int64, as all that follow.
        positives: with that score.
        false_positives: negatives with at least that score.
        true_positives: positives with at least that score.
    """

    scores: np.ndarray
    negatives: np.ndarray
    positives: np.ndarray
    false_positives: np.ndarray
    true_positives: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """Pixels with at least that score."""
        return self.false_positives + self.true_positives


class PooledPixels:
    """Scores with their truth, each kept as one integer: the bits of the score, then the label.

    Floats that are not negative are ordered as their bits are.

    Attributes:
        negatives: pixels of the background.
        positives: the others.
    """

    def __init__(self, images: Iterable[tuple[np.ndarray, np.ndarray]] = ()) -> None:
        self.negatives = self.positives = 0
        self._keys = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115, as long as this object lives
        weakref.finalize(self, self._keys.close)
        for scores, truth in images:
            self.add(scores, truth)

    def add(self, scores: np.ndarray, truth: np.ndarray) -> None:
        """Add the pixels of an image.

        Args:
            scores: in [0, 1], of any shape; kept as float32.
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
        bits = np.abs(scores).view(np.uint32)  # of -0.0 those of 0.0
        self._keys.write((bits << 1) | labels)

    def at_least(self, threshold: float) -> tuple[int, int]:
        """How many negatives and how many positives have at least that score, as float32."""
        lowest = np.float32(max(threshold, 0)).view(np.uint32) << np.uint32(1)
        every = positives = 0
        for keys in self._read():
            above = keys[keys >= lowest]
            every += above.size
            positives += int(np.count_nonzero(above & 1))
        return every - positives, positives

    def by_score(self) -> Iterator[Counted]:
        """The scores in ascending order, in ranges; those of the next range are all higher."""
        left = np.array([self.negatives, self.positives])
        for first, last in self._ranges():
            keys, counts = self._counted(first, last)
            if not keys.size:
                continue
            starts = np.flatnonzero(np.diff(keys >> 1, prepend=keys[0] >> 1 ^ 1))
            positives = np.add.reduceat(counts * (keys & 1), starts)
            negatives = np.add.reduceat(counts, starts) - positives
            found = np.stack([negatives, positives])
            reached = left[:, None] - np.cumsum(found, axis=1) + found
            yield Counted((keys[starts] >> 1).view(np.float32), *found, *reached)
            left = left - found.sum(axis=1)

    def _counted(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Distinct keys of some bins, (keys,) uint32 and ascending, and how often each occurs."""
        low, high = first << BIN_BITS, last << BIN_BITS
        parts = (keys[(keys >= low) & (keys < high)] for keys in self._read())
        if last - first > 1:
            return np.unique(np.concatenate([*parts, np.empty(0, np.uint32)]), return_counts=True)
        # Of a single bin there may be any number of pixels.
        counts = sum(np.bincount(keys - np.uint32(low), minlength=2**BIN_BITS) for keys in parts)
        found = np.flatnonzero(counts)
        return (found + low).astype(np.uint32), counts[found]

    def _ranges(self) -> list[tuple[int, int]]:
        """First and last bin of ranges with at most `AT_ONCE` pixels, or else of a single bin."""
        if self.negatives + self.positives <= AT_ONCE:
            return [(0, BINS)]
        counts = sum(np.bincount(keys >> BIN_BITS, minlength=BINS) for keys in self._read())
        starts, pixels = [0], 0
        for index, count in enumerate(counts.tolist()):
            if index and pixels + count > AT_ONCE:
                starts.append(index)
                pixels = 0
            pixels += count
        return list(zip(starts, [*starts[1:], BINS], strict=True))

    def _read(self) -> Iterator[np.ndarray]:
        self._keys.seek(0)
        while content := self._keys.read(4 * AT_ONCE):
            yield np.frombuffer(content, np.uint32)
