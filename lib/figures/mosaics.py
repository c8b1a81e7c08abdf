"""Several images in one PNG: grids, training patches, rows with titles."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageDraw, ImageFont

from lib.figures.style import INK, VERMILION, font_families, pixel_axes, save_with_canvas, shortened, write
from lib.images.png import write_png


class ImageGrid:
    """Images in rows, each in the middle of a black cell as large as the largest.

    Args:
        sizes: height and width of each image that will be added.
        columns: images in a row.
        longest: pixels; the longer side of the picture at most.
        most: pixels of the picture at most.
    """

    def __init__(
        self, sizes: Sequence[tuple[int, int]], columns: int, longest: int = 12_000, most: int = 36_000_000
    ) -> None:
        self._columns, self._number = min(columns, len(sizes)), 0
        rows = -(-len(sizes) // self._columns)
        cell = np.max(sizes, axis=0)
        whole = cell * (rows, self._columns)
        self._scale = min(1, longest / whole.max(), (most / whole.prod()) ** 0.5)
        self._cell = np.maximum(1, (cell * self._scale).astype(int))
        self._canvas = np.zeros(self._cell * (rows, self._columns), np.uint8)  # until colour comes

    def add(self, image: np.ndarray) -> None:
        """Put the next image.

        Args:
            image: (H, W), (H, W, 1) or (H, W, 3); uint8, float in [0, 1], or a {0, 1} mask, which is
                shown black and white.
        """
        corner = self._cell * divmod(self._number, self._columns)
        self._number += 1
        image = to_rgb(image)
        if self._canvas.ndim == 2 and (image != image[..., :1]).any():
            self._canvas = self._canvas[..., None].repeat(3, axis=2)
        if self._canvas.ndim == 2:
            image = image[..., 0]
        if self._scale < 1:
            size = np.maximum(1, np.multiply(image.shape[:2], self._scale).astype(int))
            image = cv2.resize(image, size[::-1].tolist(), interpolation=cv2.INTER_AREA)
        place_in_middle(self._canvas, image, *corner, *self._cell)

    def save(self, file: Path) -> None:
        """Write the PNG."""
        write_png(file, self._canvas)


LEAST_WIDTH = 420
"""Pixels of a picture with a scale of the probability, so that its texts fit."""


def sample_patches(file: Path, patches: np.ndarray, columns: int = 10) -> None:
    """Training patches (N, h, w) or (N, h, w, 1), float in [0, 1] or {0, 1}, enlarged to about 96 pixels."""
    factor = max(1, round(96 / max(patches.shape[1:3])))
    enlarged = [to_rgb(patch).repeat(factor, 0).repeat(factor, 1) for patch in patches]
    write_png(file, place_in_grid(enlarged, columns, gap=4, background=128))


def labelled_rows(
    file: Path,
    rows: Mapping[str, Sequence[np.ndarray]],
    columns: Sequence[str],
    side: int = 512,
    threshold: float | None = None,
) -> None:
    """Images in rows and columns that have titles (Figure 4 of the Enhance LadderNet paper).

    Each title in `rows` has as many images, of the kinds that `ImageGrid` takes, as there are titles in
    `columns`; the longer side of each is scaled to `side` pixels. Below them is the scale of the rows that
    show probabilities, with a mark at `threshold`.
    """
    fitted = [scale_to_side(to_rgb(image), side) for images in rows.values() for image in images]
    margin, head, gap = 44, 40, 10
    mosaic = place_in_grid(fitted, len(columns), gap, background=255)
    right = max(0, LEAST_WIDTH - margin - mosaic.shape[1])  # for the texts of the scale
    canvas = np.pad(mosaic, ((head, 0), (margin, right), (0, 0)), constant_values=255)
    canvas = np.concatenate([canvas, _probability_scale(canvas.shape[1], threshold)])
    figure, axes = pixel_axes(*canvas.shape[:2])
    for row, title in enumerate(rows):
        y = head + gap / 2 + (row + 0.5) * (mosaic.shape[0] - gap) / len(rows)
        fitting = shortened(title, side // 12)
        write(axes, fitting, margin / 2, y, 13, rotation=90, ha="center", fontweight="bold")
    for column, title in enumerate(columns):
        x = margin + gap / 2 + (column + 0.5) * (mosaic.shape[1] - gap) / len(columns)
        width = (mosaic.shape[1] - gap) // len(columns)
        write(axes, shortened(title, width // 12), x, head / 2, 12, ha="center")
    save_with_canvas(figure, canvas, file)


@functools.lru_cache(maxsize=4)  # Matplotlib would draw the texts again for each picture of a test
def _probability_scale(width: int, threshold: float | None) -> np.ndarray:
    """Grey levels from 0 to 1 on white, with a mark at the threshold: (60, width, 3) uint8."""
    canvas, length = np.full((60, width, 3), 255, np.uint8), min(256, width // 3)
    left = (width - length) // 2
    canvas[7:27, left - 1 : left + length + 1] = 154  # a frame, as white is the background
    canvas[8:26, left : left + length] = np.linspace(0, 255, length).round()[:, None]
    mark = left + round((threshold or 0) * (length - 1))
    texts = [("Probability 0", left - 8, 17, "rm"), ("1", left + length + 8, 17, "lm")]
    if threshold is not None:
        canvas[5:33, mark - 1 : mark + 2] = tuple(bytes.fromhex(VERMILION[1:]))
        texts.append((f"threshold {threshold:.3g}", mark, 44, "mm"))
    picture = Image.fromarray(canvas)
    font = ImageFont.truetype(findfont(FontProperties(family=font_families())), 15)
    for text, x, y, anchor in texts:
        ImageDraw.Draw(picture).text((x, y), text, INK, font, anchor)
    return np.asarray(picture)


def to_rgb(image: np.ndarray) -> np.ndarray:
    """(H, W), (H, W, 1) or (H, W, 3) uint8, bool, {0, 1} or float in [0, 1] to (H, W, 3) uint8."""
    image = np.asarray(image)
    if image.dtype.kind == "f":
        image = (np.clip(image, 0, 1) * 255).round()
    elif image.max(initial=0) <= 1:
        image = image * 255
    image = image.astype(np.uint8).reshape(*image.shape[:2], -1)
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def place_in_grid(
    images: Sequence[np.ndarray], columns: int, gap: int = 0, background: int = 0
) -> np.ndarray:
    """(H, W, 3) uint8 images, each in the middle of its cell."""
    height, width = np.max([image.shape[:2] for image in images], axis=0)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    canvas = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), background, np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        top, left = gap + row * (height + gap), gap + column * (width + gap)
        place_in_middle(canvas, image, top, left, height, width)
    return canvas


def scale_to_side(image: np.ndarray, side: int) -> np.ndarray:
    """The image scaled to a longer side of `side` pixels."""
    scale = side / max(image.shape[:2])
    size = [max(1, round(length * scale)) for length in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def place_in_middle(
    canvas: np.ndarray, image: np.ndarray, top: int, left: int, height: int, width: int
) -> None:
    """Put `image` in the middle of a cell of `canvas`."""
    top += (height - image.shape[0]) // 2
    left += (width - image.shape[1]) // 2
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
