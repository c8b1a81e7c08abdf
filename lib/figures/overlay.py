"""The angiogram with true positive, false positive and false negative pixels in colour."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lib.figures.mosaics import to_rgb
from lib.figures.style import draw_legend, pixel_axes, save_with_canvas, shortened, write
from lib.images.masks import without_small_areas
from lib.images.outlines import draw_outlines

OVERLAY_COLOURS = {
    "true positive": (86, 180, 233),
    "false positive": (213, 94, 0),
    "false negative": (240, 228, 66),
}
"""RGB: sky blue, vermilion and yellow of Okabe and Ito's palette."""

BORDER_COLOUR = (200, 200, 200)
"""RGB of the border of the field of view: none of the colours above."""

FILL = 0.38
"""Opacity of the colours over the angiogram."""

SMALLEST_OUTLINED = 12
"""Pixels; the outline of a smaller area would hide the pixels around it."""


def overlay(
    file: Path,
    *,
    name: str,
    original: np.ndarray,
    truth: np.ndarray,
    probability: np.ndarray,
    field_of_view: np.ndarray,
    threshold: float,
    caption: str,
) -> None:
    """Write the angiogram in grey; true positives, false positives and false negatives in colour.

    Only pixels inside the field of view are coloured.

    Args:
        file: the PNG.
        name: title of the picture.
        original: (H, W) or (H, W, 3) uint8.
        truth: (H, W) uint8 in {0, 1}.
        probability: (H, W) float32 in [0, 1].
        field_of_view: (H, W) uint8 in {0, 1}.
        threshold: a pixel is positive where its probability is at least this.
        caption: second line, e.g. the scores.
    """
    regions = compare(truth, probability, field_of_view, threshold)
    factor = max(1, round(900 / max(truth.shape)))
    outlines = [(field_of_view, BORDER_COLOUR)]
    for title, region in regions.items():
        outlines.append((without_small_areas(region, SMALLEST_OUTLINED), OVERLAY_COLOURS[title]))
    picture = draw_outlines(
        _enlarged(paint(original, regions), factor),
        [(_enlarged(mask, factor), colour) for mask, colour in outlines],
    )
    head, foot = 74, 56
    canvas = np.full((picture.shape[0] + head + foot, max(picture.shape[1], 560), 3), 255, np.uint8)
    left = (canvas.shape[1] - picture.shape[1]) // 2
    canvas[head : head + picture.shape[0], left : left + picture.shape[1]] = picture
    figure, axes = pixel_axes(*canvas.shape[:2])
    fitting = shortened(name, min(60, (canvas.shape[1] - left) // 13))
    write(axes, fitting, left + 6, 24, size=13, fontweight="bold")
    write(axes, caption, left + 6, 52, size=11)
    handles: list[Patch | Line2D] = []
    for title, rgb in OVERLAY_COLOURS.items():
        fill = _hexadecimal(FILL * np.array(rgb) + (1 - FILL) * 115)  # the colour over grey
        handles.append(Patch(facecolor=fill, edgecolor=_hexadecimal(rgb), label=title))
    border = _hexadecimal(BORDER_COLOUR)
    handles.append(Line2D([], [], color=border, linewidth=1.5, label="field of view"))
    draw_legend(figure, 10, handles=handles, loc="lower center", ncols=4, frameon=False)
    save_with_canvas(figure, canvas, file)


def compare(
    truth: np.ndarray, probability: np.ndarray, field_of_view: np.ndarray, threshold: float
) -> dict[str, np.ndarray]:
    """For each name in `OVERLAY_COLOURS` its pixels, (H, W) bool."""
    inside, true, predicted = field_of_view > 0, truth > 0, probability >= threshold
    return {
        "true positive": true & predicted & inside,
        "false positive": ~true & predicted & inside,
        "false negative": true & ~predicted & inside,
    }


def paint(original: np.ndarray, regions: dict[str, np.ndarray]) -> np.ndarray:
    """The image in grey with the regions of `compare` in colour: (H, W, 3) uint8."""
    grey = cv2.cvtColor(to_rgb(original), cv2.COLOR_RGB2GRAY)
    painted = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    for title, region in regions.items():
        painted[region] = (1 - FILL) * painted[region] + FILL * np.array(OVERLAY_COLOURS[title])
    return painted.round().astype(np.uint8)


def _enlarged(pixels: np.ndarray, factor: int) -> np.ndarray:
    return pixels.repeat(factor, 0).repeat(factor, 1)


def _hexadecimal(rgb: Sequence[float] | np.ndarray) -> str:
    return "#" + "".join(f"{round(level):02x}" for level in rgb)
