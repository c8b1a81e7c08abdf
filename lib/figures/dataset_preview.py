"""prepared.png, thumbnails of a data set, and preprocessing.png, one image after each step."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib.lines import Line2D

from lib.figures.mosaics import place_in_middle, scale_to_side, to_rgb
from lib.figures.style import (
    BLUE,
    INK,
    SKY,
    YELLOW,
    draw_legend,
    drawable,
    font_families,
    new_figure,
    pixel_axes,
    save_figure,
    save_with_canvas,
    shortened,
    style_axes,
    write,
)
from lib.images.outlines import contours


class ContactSheetEntry(NamedTuple):
    """One image of the contact sheet.

    Attributes:
        title: e.g. "2-1 016 · CNP 12.9 %".
        image: (H, W) or (H, W, 3) uint8.
        truth: (H, W) uint8 in {0, 1}.
        field_of_view: (H, W) uint8 in {0, 1}.
    """

    title: str
    image: np.ndarray
    truth: np.ndarray
    field_of_view: np.ndarray


def contact_sheet(
    file: Path,
    parts: Mapping[str, Sequence[Callable[[], ContactSheetEntry]]],
    structure: str,
    limit: int = 60,
) -> None:
    """Thumbnails grouped by part, with the outlines of truth and field of view.

    Args:
        file: the PNG.
        parts: for train, validation and test functions that read one image each, called when it is drawn.
        structure: what the truth outlines, for the legend.
        limit: if there are more images than this, each part shows an equal number of its first
            ones, and a note says how many more it has.
    """
    side, gap, label, head, columns = 256, 12, 24, 48, 6
    most = limit if sum(map(len, parts.values())) <= limit else max(1, limit // len(parts))
    rows = sum(-(-min(most, len(entries)) // columns) for entries in parts.values())
    height = head * (1 + len(parts)) + rows * (side + label + gap)
    canvas = np.full((height, columns * (side + gap) + gap, 3), 255, np.uint8)
    texts, top = [], head
    for part, entries in parts.items():
        images, drawn = len(entries), entries[:most]
        heading = f"{part} · {images} image{'s' * (images != 1)}"
        if images > len(drawn):
            heading += f" ({images - len(drawn)} more than shown here)"
        texts.append((heading, gap, top + head / 2, 13, "bold"))
        top += head
        for first in range(0, len(drawn), columns):
            for column, read in enumerate(drawn[first : first + columns]):
                left, entry = gap + column * (side + gap), read()
                canvas[top + label : top + label + side, left : left + side] = 0
                place_in_middle(canvas, _outlined_thumbnail(entry, side), top + label, left, side, side)
                texts.append((shortened(entry.title, 32), left, top + label / 2, 9, "normal"))
            top += side + label + gap
    figure, axes = pixel_axes(*canvas.shape[:2])
    for text, x, y, size, weight in texts:
        write(axes, text, x, y, size=size, fontweight=weight)
    handles = [
        Line2D([], [], color=YELLOW, linewidth=3, label=structure),
        Line2D([], [], color=SKY, linewidth=3, label="field of view (FOV)"),
    ]
    draw_legend(figure, 11, handles=handles, loc="upper right", ncols=2, frameon=False)
    save_with_canvas(figure, canvas, file)


def preprocessing_figure(file: Path, steps: Sequence[tuple[str, np.ndarray]]) -> None:
    """One image after each step of preprocessing, its histogram below (Figure 2 of the FFA paper).

    Each step is a title and an (H, W) array, uint8 or float; floats beyond [0, 1] are shown from their least
    to their greatest value.
    """
    figure = new_figure(3.1 * len(steps), 4.5)
    grid = figure.subplots(2, len(steps), height_ratios=(3, 1), squeeze=False)
    for (above, below), (title, image) in zip(grid.T, steps, strict=True):
        low, high = _value_range(image)
        above.imshow(image, cmap="gray", vmin=low, vmax=high)
        above.set_axis_off()
        above.set_title(
            drawable(title),
            color=INK,
            fontsize=12,
            fontweight="bold",
            parse_math=False,
            fontfamily=font_families(),
        )
        counts, edges = np.histogram(image, bins=64, range=(low, high))
        below.stairs(counts / image.size * 100, edges, fill=True, color=BLUE)
        style_axes(below)
        # The black surround would flatten everything else.
        below.set_ylim(0, max(1.15 * counts[1:-1].max() / image.size * 100, 1e-3))
        below.set_xlim(low, high)
        below.set_xlabel("grey value", fontsize=9)
        below.tick_params(labelsize=8)
    grid[1, 0].set_ylabel("% of pixels", fontsize=9)
    figure.set_layout_engine("tight")
    save_figure(figure, file)


def _value_range(image: np.ndarray) -> tuple[float, float]:
    if image.dtype == np.uint8:
        return 0, 255
    low, high = float(image.min()), float(image.max())
    return (0, 1) if low >= 0 and high <= 1 else (low, high)


def _outlined_thumbnail(entry: ContactSheetEntry, side: int) -> np.ndarray:
    thumbnail = scale_to_side(to_rgb(entry.image), side)
    scale = side / max(entry.image.shape[:2])
    for mask, colour in ((entry.field_of_view, SKY), (entry.truth, YELLOW)):
        rgb = tuple(bytes.fromhex(colour[1:]))
        lines = [np.round(line * scale).astype(np.int32) for line in contours(mask)]
        cv2.polylines(thumbnail, lines, True, rgb, 1, cv2.LINE_AA)
    return thumbnail
