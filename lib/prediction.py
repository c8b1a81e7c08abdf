"""From an angiogram's file to the probability of non-perfusion for each of its pixels."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.configuration.banner import Banner
from lib.configuration.sections import TestingSettings
from lib.images.dicom import pixel_spacing_mm
from lib.images.field_of_view import detect_field_of_view
from lib.images.info_banner import find_banner
from lib.images.preprocessing import network_input, preprocess
from lib.images.reading import read_image
from lib.networks.trained_network import TrainedNetwork
from lib.patches import Recomposition
from lib.runtime.errors import UserError

MIRRORS = ((), (0,), (1,), (0, 1))
"""Axes along which an image is turned over for `tta`."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says of one file; all arrays have the size of the picture in the file.

    Attributes:
        original: (H, W) or (H, W, 3) uint8, black where the information banner was.
        field_of_view: (H, W) uint8 in {0, 1}, 0 on the banner.
        probability: (H, W) float32, 0 outside the field of view.
        pixel_spacing_mm: height and width of a pixel, where they are known.
        banner: the strip that was not looked at.
    """

    original: np.ndarray
    field_of_view: np.ndarray
    probability: np.ndarray
    pixel_spacing_mm: tuple[float, float] | None
    banner: Banner | None


def predict_file(network: TrainedNetwork, path: Path) -> Prediction:
    """Read a file, leave its banner out, find its field of view, preprocess and predict.

    Raises:
        UserError: names the file and says why it cannot be read or what it lacks.
    """
    image = read_image(path)
    banner = find_banner(image) if network.info_banner == "auto" else network.info_banner
    original = banner.cut(image) if banner else image
    field_of_view = detect_field_of_view(original)
    if not field_of_view.any():
        raise UserError(f"{path}: its field of view is empty (a black image?)")
    levels = preprocess(original, field_of_view, network.preprocessing)
    probability = predict_image(network.predict, levels, network.testing_settings)
    arrays = (original, field_of_view, probability * field_of_view)
    if banner:
        arrays = tuple(banner.put_back(array) for array in arrays)
    given = network.testing_settings.pixel_spacing_mm
    spacing = (given, given) if given else pixel_spacing_mm(path)
    return Prediction(*arrays, spacing, banner)


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
        sides = (tile(size, settings.tile_size, settings.tile_overlap) for size in levels.shape)
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


def tile(size: int, longest: int, overlap: int) -> tuple[int, int]:
    """Length and step of the tiles along a side of `size` pixels.

    As few tiles as possible of at most `longest` pixels that overlap by `overlap`, and these no longer than
    they need be: 768 pixels in tiles of at most 512 that overlap by 48 make two of 408.
    """
    number = max(1, -(-(size - overlap) // (longest - overlap)))
    length = -(-(size + (number - 1) * overlap) // number)
    return length, length - overlap if number > 1 else length
