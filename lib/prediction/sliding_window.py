"""Prediction of an image of any size by a sliding window."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lib.configuration.sections import TestingSettings
from lib.images.preprocessing import network_input, resample
from lib.networks.trained_network import Predict

MIRRORS = ((), (0,), (1,), (0, 1))
"""Axes along which an image is flipped for test-time augmentation (`tta`)."""

SYMMETRIES: dict[str, list[tuple[bool, tuple[int, ...]]]] = {
    "none": [(False, ())],
    "mirrors": [(False, axes) for axes in MIRRORS],
    "symmetries": [(transposed, axes) for transposed in (False, True) for axes in MIRRORS],
}
"""For each value of `tta`: whether rows and columns are exchanged, and the axes that are then flipped."""

GRID = 16
"""Tiles of `window = auto` begin at multiples of so many pixels: then pooling groups the pixels of a tile as
those of the whole image, and away from the borders of tiles the network computes the same."""


def predict_views(predict: Predict, levels: np.ndarray, settings: TestingSettings) -> np.ndarray:
    """Predict a whole image by each member of an ensemble, and with `tta` in each mirror image or symmetry.

    Args:
        predict: the network.
        levels: (H, W, C) uint8, preprocessed; any size, also smaller than a patch.
        settings: window, size and strides of patches, `test_batch_size` as a number, tiles, tta;
            with `window = auto` those of `lib.networks.batches.with_tile_size`.

    Returns:
        (V, H, W) float32: for each symmetry, turned back, each member.

    Raises:
        ValueError: `test_batch_size` is "auto"; `lib.networks.batches.with_batch_size` replaces it.
    """
    symmetries = SYMMETRIES[settings.tta]
    views = np.empty((0, *levels.shape[:2]), np.float32)
    for number, (transposed, axes) in enumerate(symmetries):
        turned = np.flip(np.swapaxes(levels, 0, 1) if transposed else levels, axes)
        members = _predict_windows(predict, turned, settings)
        if not number:  # one array for all: a list and its copy would need twice the memory
            views = np.empty((len(symmetries) * len(members), *levels.shape[:2]), np.float32)
        for index, member in enumerate(members, number * len(members)):
            probability = np.flip(member, axes)
            views[index] = probability.T if transposed else probability
    return views


def predict_image(predict: Predict, levels: np.ndarray, settings: TestingSettings) -> np.ndarray:
    """The mean of `predict_views`: (H, W) float32."""
    return mean_of_views(predict_views(predict, levels, settings))


def mean_of_views(views: np.ndarray) -> np.ndarray:
    """The mean of (V, H, W) float32 over V: (H, W) float32."""
    return np.asarray(np.mean(views, axis=0, dtype=np.float32))


def described_window(settings: TestingSettings) -> str:
    """How images are predicted, for the user; `settings` as for `predict_image`."""
    if settings.window != "auto":
        return f"window = {settings.window}"
    side = settings.tile_size
    return f"window = auto: images of at most {side}x{side} pixels whole, larger ones in tiles of that area"


def predict_stored_size(
    predict: Predict, levels: np.ndarray, field_of_view: np.ndarray, settings: TestingSettings
) -> np.ndarray:
    """`predict_image`, then `at_stored_size`: (H, W) float32."""
    return at_stored_size(predict_image(predict, levels, settings), field_of_view, settings)


def at_stored_size(
    probability: np.ndarray, field_of_view: np.ndarray, settings: TestingSettings
) -> np.ndarray:
    """Resample a prediction to the stored size of the image, and apply the logit shift of the settings.

    Args:
        probability: (h, w) float32.
        field_of_view: (H, W) uint8 in {0, 1}, of the stored size.
        settings: `logit_shift`.

    Returns:
        (H, W) float32.
    """
    if probability.shape != field_of_view.shape:
        probability = resample(_continued_outside(probability, field_of_view), field_of_view.shape)
    return with_logit_shift(probability, field_of_view, settings.logit_shift)


def _continued_outside(probability: np.ndarray, field_of_view: np.ndarray) -> np.ndarray:
    """Replace the probability outside the field of view, and in its last pixels, by that of the others.

    What a network predicts outside is arbitrary, and resampling would carry it into the field of view. Its
    last two pixels, (h, w), are a mixture of retina and surround: networks take them for non-perfusion. At
    the edge of the image there is no surround, and nothing is replaced.
    """
    share = resample(field_of_view.astype(np.float32), probability.shape)
    inside = cv2.erode((share > 0.999).astype(np.float32), np.ones((3, 3)))
    total = cv2.blur(inside, (7, 7))
    continued = cv2.blur(probability * inside, (7, 7)) / np.maximum(total, 1e-6)
    continued = np.clip(continued, 0, 1)  # cv2.blur has rounding errors
    return np.where((inside > 0) | (total == 0), probability, continued)


def with_logit_shift(probability: np.ndarray, field_of_view: np.ndarray, share: float) -> np.ndarray:
    """Subtract, from all logits of an image, a share of the logit of its 99th percentile in the FOV.

    Where contrast is low, a network gives low probabilities to all pixels of an image. The shift lowers those
    of images with high ones, so that one threshold fits more images. It raises none: images without
    foreground would then have false positives. The order of the pixels of an image stays the same.

    Args:
        probability: (H, W) float32.
        field_of_view: (H, W) uint8 in {0, 1}.
        share: between 0 (no shift) and 1.

    Returns:
        (H, W) float32.
    """
    inside = field_of_view > 0
    if not share or not inside.any():
        return probability
    margin = np.float32(1e-4)  # a probability of 0 or 1 has no finite logit
    logits = np.log((probability + margin) / (1 - probability + margin))
    logits -= np.float32(share * max(0.0, np.percentile(logits[inside], 99)))
    return 1 / (1 + np.exp(-logits))


def _predict_windows(predict: Predict, levels: np.ndarray, settings: TestingSettings) -> Sequence[np.ndarray]:
    """(H, W) float32 of each member, from levels (H, W, C)."""
    fits = settings.window == "auto" and levels.shape[0] * levels.shape[1] <= settings.tile_size**2
    if settings.window == "whole" or fits:
        whole = predict(network_input(np.ascontiguousarray(levels))[None])
        return list(np.moveaxis(np.asarray(whole, np.float32)[0], -1, 0))
    height, width = levels.shape[:2]
    if settings.window == "auto":
        margins = [(0, -height % GRID), (0, -width % GRID), (0, 0)]
        levels = np.pad(levels, margins, mode="symmetric")  # as networks do
    windows = _sliding_window(levels.shape[:2], settings)
    number = len(windows.starts)
    size = min(_batch_size(settings), number)

    def predict_batch(chosen: slice) -> np.ndarray:
        patches = network_input(windows.extract(levels, chosen))
        # The last batch is filled with zeros, so that the network is traced for one shape only.
        missing = np.zeros((size - len(patches), *patches.shape[1:]), np.float32)
        probability = predict(np.concatenate([patches, missing]))
        return np.asarray(probability, np.float32)[: len(patches)]

    batches = [slice(start, start + size) for start in range(0, number, size)]
    # The tiles of auto are as large as memory allows: one at a time.
    predicted = (map if settings.window == "auto" else _in_two_threads)(predict_batch, batches)
    members: list[SlidingWindow] = []
    for chosen, probability in zip(batches, predicted, strict=True):
        while len(members) < probability.shape[-1]:
            members.append(_sliding_window(levels.shape[:2], settings))
        for member, patches in zip(members, np.moveaxis(probability, -1, 0), strict=True):
            member.add(patches, chosen)
    return [member.mean[:height, :width] for member in members]


def _sliding_window(shape: tuple[int, ...], settings: TestingSettings) -> "SlidingWindow":
    if settings.window == "auto":
        patch, stride = zip(*cheapest_tiles(shape, settings.tile_size**2, settings.tile_overlap), strict=True)
        return SlidingWindow(shape, patch, stride, tiles=True, grid=GRID)
    if settings.window == "tiles":
        sides = (tile_size_and_step(s, settings.tile_size, settings.tile_overlap) for s in shape)
        patch, stride = zip(*sides, strict=True)
        return SlidingWindow(shape, patch, stride, tiles=True)
    patch = (settings.test_patch_height, settings.test_patch_width)
    overlap = settings.window == "overlap"
    stride = (settings.stride_height, settings.stride_width) if overlap else patch
    return SlidingWindow(shape, patch, stride)


def _batch_size(settings: TestingSettings) -> int:
    if settings.window in {"tiles", "auto"}:  # tiles are large
        return 1
    if isinstance(settings.test_batch_size, str):
        raise ValueError("test_batch_size = auto: with_batch_size must choose a number before")
    return settings.test_batch_size


def _in_two_threads(
    predict_batch: Callable[[slice], np.ndarray], batches: Sequence[slice]
) -> Iterator[np.ndarray]:
    """Yield the result of each batch, in order.

    The second thread uses processor time that the first leaves idle. The first batch runs alone, because it
    traces the network.
    """
    yield predict_batch(batches[0])
    running: deque[Future[np.ndarray]] = deque()
    with ThreadPoolExecutor(2) as pool:
        for batch in batches[1:]:
            running.append(pool.submit(predict_batch, batch))
            if len(running) > 2:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def tile_size_and_step(side: int, longest: int, overlap: int) -> tuple[int, int]:
    """Length and step of the tiles along a side of an image, in pixels.

    There are as few tiles as possible of at most `longest` pixels that overlap by `overlap`, and they are as
    short as possible: 768 pixels in tiles of at most 512 that overlap by 48 give two tiles of 408.
    """
    number = max(1, -(-(side - overlap) // (longest - overlap)))
    length = -(-(side + (number - 1) * overlap) // number)
    return length, length - overlap if number > 1 else length


def cheapest_tiles(shape: tuple[int, ...], most_pixels: int, overlap: int) -> list[tuple[int, int]]:
    """Length and step of tiles along both sides of an image: the least pixels in all tiles together.

    `overlap` and both sides of the image are multiples of `GRID`; so are the lengths and steps. A tile has at
    most `most_pixels`, which must be enough for a square of twice the overlap.
    """
    sides, least = [side // GRID for side in shape], overlap // GRID
    found = []
    for rows in range(1, 1 + max(1, sides[0] - least)):
        for columns in range(1, 1 + max(1, sides[1] - least)):
            numbers = rows, columns
            lengths = [-(-(s + (n - 1) * least) // n) for s, n in zip(sides, numbers, strict=True)]
            if math.prod(lengths) * GRID**2 <= most_pixels:
                found.append((math.prod(numbers) * math.prod(lengths), numbers, lengths))
                break  # more columns cost more
    _, numbers, lengths = min(found)
    steps = [length - least * (n > 1) for length, n in zip(lengths, numbers, strict=True)]
    return [(GRID * length, GRID * step) for length, step in zip(lengths, steps, strict=True)]


class SlidingWindow:
    """Patches of one image, and the mean of the predicted patches over each pixel.

    Args:
        shape: height and width of the image.
        patch: height and width of a patch.
        stride: steps down and to the right, at most the size of the patch.
        tiles: spread the patches evenly and weight them by a Gaussian whose standard deviation is an eighth
            of the patch, as nnU-Net does (Isensee et al., Nature Methods 18, 2021); otherwise patches are
            exactly `stride` apart and have equal weights.
        grid: if above 1, tiles start at multiples of it, which divides shape, patch and stride; their weights
            are constant, and fall in the overlap only.

    Attributes:
        starts: (patches, 2) int: row and column of the first pixel of each patch.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        patch: tuple[int, ...],
        stride: tuple[int, ...],
        *,
        tiles: bool = False,
        grid: int = 1,
    ) -> None:
        self.shape, self.patch = tuple(shape), patch
        self.padded = tuple(max(s, p) for s, p in zip(shape, patch, strict=True))
        starts = partial(even_starts, grid=grid) if tiles else strided_starts
        sides = [starts(*side) for side in zip(self.padded, patch, stride, strict=True)]
        self.starts = np.stack([g.ravel() for g in np.meshgrid(*sides, indexing="ij")], axis=1)
        self._sum = np.zeros(self.padded, np.float32)
        weights = [
            _weights(p, p - s, grid) if tiles else np.ones(p) for p, s in zip(patch, stride, strict=True)
        ]
        self._weights = np.outer(*weights).astype(np.float32)
        # The sums of the weights of all patches along each side; at a pixel, the sum is the product of both.
        self._covers = [
            np.sum([np.pad(w, (at, s - at - w.size)) for at in ats], axis=0).astype(np.float32)
            for s, w, ats in zip(self.padded, weights, sides, strict=True)
        ]

    def extract(self, image: np.ndarray, chosen: slice = slice(None)) -> np.ndarray:
        """(n, *patch, C) of `image` (H, W, C) at the chosen starts; a small image is padded by its edge."""
        if self.padded != self.shape:  # np.pad copies the image in any case
            margins = [(0, p - s) for s, p in zip(self.shape, self.padded, strict=True)]
            image = np.pad(image, [*margins, (0, 0)], mode="edge")
        windows = sliding_window_view(image, self.patch, axis=(0, 1))
        # The view has the axes of a patch after the channels.
        return np.ascontiguousarray(np.moveaxis(windows[tuple(self.starts[chosen].T)], 1, -1))

    def add(self, patches: np.ndarray, chosen: slice = slice(None)) -> None:
        """Add predicted patches (n, *patch) at the chosen starts."""
        height, width = self.patch
        for (row, column), patch in zip(self.starts[chosen], patches, strict=True):
            self._sum[row : row + height, column : column + width] += self._weights * patch

    @property
    def mean(self) -> np.ndarray:
        """(H, W) float32: the weighted mean of all patches over each pixel, after all have been added.

        The two sums are rounded differently: without the limit, the mean of ones can be 1.0000005.
        """
        height, width = self.shape
        rows, columns = self._covers
        mean = self._sum / rows[:, None]
        mean /= columns
        return np.minimum(mean, np.float32(1), out=mean)[:height, :width]


def strided_starts(size: int, patch: int, stride: int) -> np.ndarray:
    """Starts of patches along one side (size >= patch >= stride): every `stride` pixels, and at the end."""
    starts = np.arange(0, size - patch + 1, stride)
    return starts if starts[-1] == size - patch else np.append(starts, size - patch)


def even_starts(size: int, patch: int, stride: int, grid: int = 1) -> np.ndarray:
    """Starts of patches along one side: from end to end in equal steps of at most `stride`.

    They are multiples of `grid`, which divides size, patch and stride.
    """
    steps = -(-(size - patch) // stride)
    return np.linspace(0, (size - patch) // grid, steps + 1).round().astype(int) * grid


def _weights(size: int, overlap: int, grid: int) -> np.ndarray:
    """(size,) float64: the weights of a tile along one side."""
    if grid == 1:
        return _gaussian(size)
    # They fall in the middle half of the overlap: the last pixels of a tile lack the pixels outside it.
    from_end = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
    return np.clip((from_end - overlap / 4) / max(overlap / 2, 1), 1e-3, 1)


def _gaussian(size: int) -> np.ndarray:
    """(size,) float64: 1 in the middle, and .0003 at the ends, so that no pixel has the weight 0."""
    return np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / (size / 8)) ** 2)
