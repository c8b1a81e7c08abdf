"""Images as pictures: overlays, grids, contact sheets; one function, one PNG, whole or not at all."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lib.evaluation import PredictedImage
from lib.figure_style import (
    BLUE,
    INK,
    SKY,
    YELLOW,
    drawable,
    font_families,
    new_figure,
    pixel_axes,
    save_figure,
    save_over,
    shortened,
    shown,
    style_axes,
    write,
)
from lib.images.masks import without_small_areas
from lib.images.outlines import closed_outlines
from lib.images.png import write_png
from lib.pixel_scores import Scores

OVERLAY_COLOURS = {
    "true positive": (86, 180, 233),
    "false positive": (213, 94, 0),
    "false negative": (240, 228, 66),
}
"""RGB of `overlay`: sky blue, vermilion, yellow."""

SPECK = 12
"""Pixels; smaller areas get no outline, whose ring would hide what lies around them."""


class ImageGrid:
    """Images in rows, each in the middle of a black cell as large as the largest.

    Args:
        sizes: height and width of each image that will be added.
        columns: images in a row.
        longest: pixels; the longer side of the picture at most.
        most: pixels of the picture at most.
    """

    def __init__(
        self,
        sizes: Sequence[tuple[int, int]],
        columns: int,
        longest: int = 12_000,
        most: int = 36_000_000,
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
        image = _rgb(image)
        if self._canvas.ndim == 2 and (image != image[..., :1]).any():
            self._canvas = self._canvas[..., None].repeat(3, axis=2)
        if self._canvas.ndim == 2:
            image = image[..., 0]
        if self._scale < 1:
            size = np.maximum(1, np.multiply(image.shape[:2], self._scale).astype(int))
            image = cv2.resize(image, size[::-1].tolist(), interpolation=cv2.INTER_AREA)
        top, left = corner + (self._cell - image.shape[:2]) // 2
        self._canvas[top : top + image.shape[0], left : left + image.shape[1]] = image

    def save(self, file: Path) -> None:
        """Write the PNG."""
        write_png(file, self._canvas)


def sample_patches(file: Path, patches: np.ndarray, columns: int = 10) -> None:
    """Training patches, enlarged to about 96 pixels.

    Args:
        file: the PNG.
        patches: (N, h, w) or (N, h, w, 1), float in [0, 1] or {0, 1}.
        columns: patches in a row.
    """
    factor = max(1, round(96 / max(patches.shape[1:3])))
    enlarged = [_rgb(patch).repeat(factor, 0).repeat(factor, 1) for patch in patches]
    write_png(file, _mosaic(enlarged, columns, gap=4, background=128))


def original_truth_prediction(file: Path, cases: Sequence[PredictedImage]) -> None:
    """Three rows as in retina-unet: originals, their truths and the predicted probabilities."""
    rows = {
        "Original": [case.original for case in cases],
        "Ground truth": [case.truth for case in cases],
        "Prediction": [case.probability for case in cases],
    }
    labelled_rows(file, rows, [case.name for case in cases])


def labelled_rows(
    file: Path,
    rows: Mapping[str, Sequence[np.ndarray]],
    columns: Sequence[str],
    side: int = 512,
) -> None:
    """Images in rows and columns that have titles (Figure 4 of the Enhance LadderNet paper).

    Args:
        file: the PNG.
        rows: for each title as many images as there are columns, as in `ImageGrid`.
        columns: their titles.
        side: of an image, in pixels.
    """
    fitted = [_fitted(_rgb(image), side) for images in rows.values() for image in images]
    margin, head, gap = 44, 40, 10
    mosaic = _mosaic(fitted, len(columns), gap, background=255)
    canvas = np.pad(mosaic, ((head, 0), (margin, 0), (0, 0)), constant_values=255)
    figure, axes = pixel_axes(*canvas.shape[:2])
    for row, title in enumerate(rows):
        y = head + gap / 2 + (row + 0.5) * (mosaic.shape[0] - gap) / len(rows)
        write(axes, title, margin / 2, y, 13, rotation=90, ha="center", fontweight="bold")
    for column, title in enumerate(columns):
        x = margin + gap / 2 + (column + 0.5) * (mosaic.shape[1] - gap) / len(columns)
        write(axes, shortened(title, 48), x, head / 2, 12, ha="center")
    save_over(figure, canvas, file)


def overlay(file: Path, case: PredictedImage, scores: Scores) -> None:
    """The angiogram in grey, what the network found, missed and imagined in colour.

    Only pixels inside the field of view are coloured and counted.

    Args:
        file: the PNG.
        case: the predicted image.
        scores: of its pixels inside the field of view, at the threshold to be shown.
    """
    inside, threshold = case.field_of_view > 0, scores.threshold
    painted, regions = overlay_pixels(case, threshold)
    factor = max(1, round(900 / max(painted.shape[:2])))
    painted = painted.repeat(factor, 0).repeat(factor, 1)
    head, foot = 74, 56
    canvas = np.full((painted.shape[0] + head + foot, max(painted.shape[1], 560), 3), 255, np.uint8)
    left = (canvas.shape[1] - painted.shape[1]) // 2
    canvas[head : head + painted.shape[0], left : left + painted.shape[1]] = painted
    figure, axes = pixel_axes(*canvas.shape[:2])

    def outline(mask: np.ndarray, colour: object, **style: object) -> None:
        lines = [(line + 0.5) * factor - 0.5 + (left, head) for line in closed_outlines(mask)]
        axes.add_collection(LineCollection(lines, colors=[colour], **style))

    outline(inside, "white", linewidths=0.8, linestyles="--")
    handles = []
    for name, region in regions.items():
        colour = np.array(OVERLAY_COLOURS[name]) / 255
        outline(without_small_areas(region, SPECK), colour, linewidths=1.1)
        # The legend shows the colour as it looks over grey.
        painted_colour = 0.62 * 0.45 + 0.38 * colour
        handles.append(Patch(facecolor=painted_colour, edgecolor=colour, label=name))
    handles.append(Line2D([], [], color=INK, linewidth=0.8, linestyle="--", label="field of view"))
    write(axes, shortened(case.name, 60), left + 6, 24, size=13, fontweight="bold")
    measured = (
        f"Dice {shown(scores.f1)} · AUC-ROC {shown(scores.auc_roc)} · FOV pixels, "
        f"threshold {threshold:.3g}"
    )
    write(axes, measured, left + 6, 52, size=11)
    figure.legend(handles=handles, loc="lower center", ncols=4, frameon=False, fontsize=10)
    save_over(figure, canvas, file)


def overlay_pixels(
    case: PredictedImage, threshold: float
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The coloured angiogram without its frame.

    Returns:
        (H, W, 3) uint8, and for each name in `OVERLAY_COLOURS` its region, (H, W) bool.
    """
    inside = case.field_of_view > 0
    truth, predicted = case.truth > 0, case.probability >= threshold
    regions = {
        "true positive": truth & predicted & inside,
        "false positive": ~truth & predicted & inside,
        "false negative": truth & ~predicted & inside,
    }
    grey = cv2.cvtColor(_rgb(case.original), cv2.COLOR_RGB2GRAY)
    painted = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    for name, region in regions.items():
        painted[region] = 0.62 * painted[region] + 0.38 * np.array(OVERLAY_COLOURS[name])
    return painted.round().astype(np.uint8), regions


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
        parts: the images of train, validation and test; each is called for when it is drawn.
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
                _paste(canvas, _outlined_thumbnail(entry, side), top + label, left, side)
                texts.append((shortened(entry.title, 38), left, top + label / 2, 9, "normal"))
            top += side + label + gap
    figure, axes = pixel_axes(*canvas.shape[:2])
    for text, x, y, size, weight in texts:
        write(axes, text, x, y, size=size, fontweight=weight)
    handles = [
        Line2D([], [], color=YELLOW, linewidth=3, label=structure),
        Line2D([], [], color=SKY, linewidth=3, label="field of view (FOV)"),
    ]
    figure.legend(handles=handles, loc="upper right", ncols=2, frameon=False, fontsize=11)
    save_over(figure, canvas, file)


def preprocessing_figure(file: Path, steps: Sequence[tuple[str, np.ndarray]]) -> None:
    """One image after each step of preprocessing, its histogram below (Figure 2 of the FFA paper).

    Args:
        file: the PNG.
        steps: title and (H, W) array, uint8 or float; floats beyond [0, 1] are shown from their
            least to their greatest value.
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


def _rgb(image: np.ndarray) -> np.ndarray:
    """(H, W), (H, W, 1) or (H, W, 3) uint8, bool, {0, 1} or float in [0, 1] to (H, W, 3) uint8."""
    image = np.asarray(image)
    if image.dtype.kind == "f":
        image = (np.clip(image, 0, 1) * 255).round()
    elif image.max(initial=0) <= 1:
        image = image * 255
    image = image.astype(np.uint8).reshape(*image.shape[:2], -1)
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def _mosaic(
    images: Sequence[np.ndarray], columns: int, gap: int = 0, background: int = 0
) -> np.ndarray:
    """(H, W, 3) uint8 images, each in the middle of its cell."""
    height = max(image.shape[0] for image in images)
    width = max(image.shape[1] for image in images)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    canvas = np.full(
        (rows * (height + gap) + gap, columns * (width + gap) + gap, 3), background, np.uint8
    )
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        top = gap + row * (height + gap) + (height - image.shape[0]) // 2
        left = gap + column * (width + gap) + (width - image.shape[1]) // 2
        canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


def _fitted(image: np.ndarray, side: int) -> np.ndarray:
    """The image scaled to a longer side of `side` pixels."""
    scale = side / max(image.shape[:2])
    size = [max(1, round(length * scale)) for length in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def _paste(canvas: np.ndarray, image: np.ndarray, top: int, left: int, side: int) -> None:
    """Put `image` in the middle of a black square."""
    canvas[top : top + side, left : left + side] = 0
    top += (side - image.shape[0]) // 2
    left += (side - image.shape[1]) // 2
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image


def _outlined_thumbnail(entry: ContactSheetEntry, side: int) -> np.ndarray:
    thumbnail = _fitted(_rgb(entry.image), side)
    scale = side / max(entry.image.shape[:2])
    for mask, colour in ((entry.field_of_view, SKY), (entry.truth, YELLOW)):
        rgb = tuple(bytes.fromhex(colour[1:]))
        lines = [np.round(line * scale).astype(np.int32) for line in closed_outlines(mask)]
        cv2.polylines(thumbnail, lines, True, rgb, 1, cv2.LINE_AA)
    return thumbnail
