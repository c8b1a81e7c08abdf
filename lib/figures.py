"""Every picture that the project saves: one function, one PNG, which appears whole or not at all.

Matplotlib's objects are used without pyplot, so that nothing is global and any thread may draw.
Colours are those of Okabe and Ito (2008), told apart under the common forms of colour blindness.
"""

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from PIL import Image

from lib.evaluation import Curves, Evaluation, PredictedImage, score_pixels
from lib.files import written_beside
from lib.measurement import without_small_areas
from lib.outlines import contours

BLUE, ORANGE, VERMILION, YELLOW, SKY = "#0072B2", "#E69F00", "#D55E00", "#F0E442", "#56B4E9"
INK, FAINT = "#222222", "#9A9A9A"
NETWORKS = (BLUE, VERMILION, "#009E73", "#CC79A7", SKY, ORANGE, INK)
"""One colour a network where several are compared."""

OVERLAY_COLOURS = {
    "true positive": (86, 180, 233),
    "false positive": (213, 94, 0),
    "false negative": (240, 228, 66),
}
"""RGB of `overlay`: sky blue, vermilion, yellow."""

CHINESE_FONTS = (
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "Microsoft YaHei",
    "PingFang SC",
    "WenQuanYi Micro Hei",
    "SimHei",
    "Heiti TC",
    "Arial Unicode MS",
)
"""For file names; the first that is installed is used."""

DOTS_PER_INCH = 300

SPECK = 12
"""Pixels; smaller areas get no outline, whose ring would hide what lies around them."""


# --- curves ---------------------------------------------------------------------------------------


def roc_figure(file: Path, evaluation: Evaluation) -> None:
    """The ROC curve of the network and of blurred darkness over the pooled FOV pixels."""
    figure, axes = _square_axes("ROC curve", evaluation)
    axes.set_xlabel("1 − specificity (false positive rate)")
    axes.set_ylabel("Sensitivity (true positive rate)")
    _draw_both(
        axes,
        evaluation,
        "auc_roc",
        lambda curves: (curves.false_positive_rate, curves.true_positive_rate),
    )
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle="--", label="chance (0.500)")
    scores = evaluation.in_field_of_view
    if scores.sensitivity is not None and scores.specificity is not None:
        _operating_point(
            axes,
            1 - scores.specificity,
            scores.sensitivity,
            f"threshold {scores.threshold:.3g}: sensitivity {scores.sensitivity:.3f}, "
            f"specificity {scores.specificity:.3f}",
        )
    human = evaluation.second_observer
    if human and None not in (human.sensitivity, human.specificity):
        _human(axes, 1 - human.specificity, human.sensitivity, human.f1)
    _legend_below(axes)
    save_figure(figure, file)


def precision_recall_figure(file: Path, evaluation: Evaluation) -> None:
    """Precision over recall of the network and of blurred darkness over the pooled FOV pixels."""
    figure, axes = _square_axes("Precision-recall curve", evaluation)
    axes.set_xlabel("Recall (sensitivity)")
    axes.set_ylabel("Precision")
    # scikit-learn ends the curve with an invented point at recall 0, precision 1.
    _draw_both(
        axes, evaluation, "auc_pr", lambda curves: (curves.recall[:-1], curves.precision[:-1])
    )
    scores = evaluation.in_field_of_view
    if scores.pixels:
        prevalence = (scores.true_positives + scores.false_negatives) / scores.pixels
        label = f"chance: prevalence {prevalence:.3f}"
        axes.axhline(prevalence, color=FAINT, linewidth=1, linestyle="--", label=label)
    if scores.sensitivity is not None and scores.precision is not None:
        _operating_point(
            axes,
            scores.sensitivity,
            scores.precision,
            f"threshold {scores.threshold:.3g}: recall {scores.sensitivity:.3f}, "
            f"precision {scores.precision:.3f}",
        )
    human = evaluation.second_observer
    if human and None not in (human.sensitivity, human.precision):
        _human(axes, human.sensitivity, human.precision, human.f1)
    _legend_below(axes)
    save_figure(figure, file)


def learning_curves(
    file: Path, history: Sequence[Mapping[str, float | None]], best_by: str = "auc"
) -> None:
    """Loss, accuracy and AUC over the epochs, the best epoch marked.

    Args:
        file: the PNG.
        history: one row an epoch with `epoch` and any of `loss`, `accuracy`, `auc` and the same
            behind `val_`; a value may be missing, None or not finite.
        best_by: "auc" (greatest `val_auc`) or "loss" (least `val_loss`).
    """
    figure = new_figure(12, 3.7)
    best = _best_epoch(history, best_by)
    for axes, name, title in zip(
        figure.subplots(1, 3),
        ("loss", "accuracy", "auc"),
        ("Loss", "Accuracy", "AUC-ROC"),
        strict=True,
    ):
        style_axes(axes)
        axes.set_title(title, loc="left", color=INK, fontweight="bold")
        axes.set_xlabel("Epoch")
        axes.set_xlim(0.5, max((row["epoch"] for row in history), default=1) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
        if best is not None:
            axes.axvline(best, color=FAINT, linewidth=1, linestyle="--")
        for key, label, colour in (
            (name, "training", BLUE),
            (f"val_{name}", "validation", VERMILION),
        ):
            epochs, values = _series(history, key)
            if values:
                marker = "o" if len(values) <= 30 else None
                axes.plot(
                    epochs,
                    values,
                    color=colour,
                    linewidth=1.8,
                    marker=marker,
                    markersize=3,
                    label=label,
                )
                if best in epochs and key.startswith("val_"):
                    value = values[epochs.index(best)]
                    _operating_point(axes, best, value, f"best epoch {best:g}: {value:.4f}")
        if not _legend(axes, "best"):
            _say_in_middle(axes, "no values yet")
    figure.subplots_adjust(left=0.045, right=0.985, bottom=0.15, top=0.9, wspace=0.16)
    save_figure(figure, file, dots_per_inch=100)


def _square_axes(title: str, evaluation: Evaluation) -> tuple[Figure, Axes]:
    figure = new_figure(5.8, 7.1)
    axes = figure.add_axes((0.12, 0.22, 0.84, 0.84 * 5.8 / 7.1))
    style_axes(axes)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    images = len(evaluation.per_image)
    counted = f"FOV pixels pooled over {images} test image{'s' * (images != 1)}"
    axes.set_title(title, loc="left", color=INK, fontweight="bold", fontsize=12, pad=22)
    axes.text(0, 1.02, counted, transform=axes.transAxes, fontsize=9, color=INK)
    return figure, axes


def _draw_both(
    axes: Axes,
    evaluation: Evaluation,
    area: str,
    points: Callable[[Curves], tuple[np.ndarray, np.ndarray]],
) -> None:
    for curves, scores, name, colour, width in (
        (evaluation.curves, evaluation.in_field_of_view, "network", BLUE, 2.2),
        (evaluation.darkness_curves, evaluation.blurred_darkness, "blurred darkness", ORANGE, 1.2),
    ):
        if curves is not None:
            label = f"{name} (area {getattr(scores, area):.3f})"
            axes.plot(*points(curves), color=colour, linewidth=width, label=label, zorder=width)
    if evaluation.curves is None:
        _say_in_middle(axes, "n/a: all FOV pixels are of one class")


def _operating_point(axes: Axes, x: float, y: float, label: str) -> None:
    axes.plot(
        [x],
        [y],
        linestyle="none",
        marker="o",
        markersize=7,
        markerfacecolor="white",
        markeredgecolor=INK,
        markeredgewidth=1.6,
        zorder=5,
        label=label,
    )


def _human(axes: Axes, x: float, y: float, f1: float) -> None:
    label = f"second observer (F1 {f1:.3f})"
    axes.plot([x], [y], linestyle="none", marker="D", color=VERMILION, zorder=5, label=label)


def _best_epoch(history: Sequence[Mapping[str, float | None]], best_by: str) -> float | None:
    epochs, values = _series(history, f"val_{best_by}")
    if not values:
        return None
    return epochs[int(np.argmax(values) if best_by == "auc" else np.argmin(values))]


def _series(
    history: Sequence[Mapping[str, float | None]], key: str
) -> tuple[list[float], list[float]]:
    rows = [row for row in history if row.get(key) is not None and np.isfinite(row[key])]
    return [row["epoch"] for row in rows], [row[key] for row in rows]


# --- images ---------------------------------------------------------------------------------------


def image_grid(file: Path, images: Sequence[np.ndarray], columns: int) -> None:
    """Images in rows of `columns`, each in the middle of a black cell as large as the largest.

    Args:
        file: the PNG; its longer side is at most 12 000 pixels.
        images: (H, W), (H, W, 1) or (H, W, 3); uint8, float in [0, 1], or {0, 1} masks, which are
            shown black and white. Sizes may differ.
        columns: images in a row.
    """
    _save_pixels(_mosaic([_rgb(image) for image in images], columns), file)


def sample_patches(file: Path, patches: np.ndarray, columns: int = 10) -> None:
    """Training patches, enlarged to about 96 pixels.

    Args:
        file: the PNG.
        patches: (N, h, w) or (N, h, w, 1), float in [0, 1] or {0, 1}.
        columns: patches in a row.
    """
    factor = max(1, round(96 / max(patches.shape[1:3])))
    enlarged = [_rgb(patch).repeat(factor, 0).repeat(factor, 1) for patch in patches]
    _save_pixels(_mosaic(enlarged, columns, gap=4, background=128), file)


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
        rows: for each title as many images as there are columns, as in `image_grid`.
        columns: their titles.
        side: of an image, in pixels.
    """
    fitted = [_fitted(_rgb(image), side) for images in rows.values() for image in images]
    margin, head, gap = 44, 40, 10
    mosaic = _mosaic(fitted, len(columns), gap, background=255)
    canvas = np.pad(mosaic, ((head, 0), (margin, 0), (0, 0)), constant_values=255)
    figure, axes = _pixel_axes(canvas)
    for row, title in enumerate(rows):
        y = head + gap / 2 + (row + 0.5) * (mosaic.shape[0] - gap) / len(rows)
        _write(axes, title, margin / 2, y, 13, rotation=90, ha="center", fontweight="bold")
    for column, title in enumerate(columns):
        x = margin + gap / 2 + (column + 0.5) * (mosaic.shape[1] - gap) / len(columns)
        _write(axes, _shortened(title, 48), x, head / 2, 12, ha="center")
    save_figure(figure, file, dots_per_inch=100)


def bar_chart(file: Path, groups: Mapping[str, Mapping[str, float | None]]) -> None:
    """Scores side by side (Figure 9 of the LDPC-Net paper).

    Args:
        file: the PNG.
        groups: for each network its scores in [0, 1]; None is left out. The same scores for all.
    """
    scores = list(next(iter(groups.values())))
    figure = new_figure(1.6 + 1.5 * len(scores), 3.9)
    axes = figure.add_axes((0.07, 0.12, 0.91, 0.68))
    style_axes(axes)
    width = 0.8 / len(groups)
    for number, (name, values) in enumerate(groups.items()):
        at = np.arange(len(scores)) + (number - (len(groups) - 1) / 2) * width
        heights = [values[score] or 0 for score in scores]
        bars = axes.bar(
            at, heights, width * 0.9, label=name, color=NETWORKS[number % len(NETWORKS)]
        )
        if len(groups) <= 4:
            axes.bar_label(bars, [f"{h:.3f}" for h in heights], fontsize=7, padding=1)
    axes.set_xticks(range(len(scores)), scores)
    axes.set_ylim(0, 1.05)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=4, frameon=False, fontsize=9)
    save_figure(figure, file)


def overlay(file: Path, case: PredictedImage, threshold: float) -> None:
    """The angiogram in grey, what the network found, missed and imagined in colour.

    Only pixels inside the field of view are coloured and counted.

    Args:
        file: the PNG.
        case: the predicted image.
        threshold: a pixel is predicted positive where its probability is at least this.
    """
    inside = case.field_of_view > 0
    scores = score_pixels(case.probability[inside], case.truth[inside], threshold)
    painted, regions = overlay_pixels(case, threshold)
    factor = max(1, round(900 / max(painted.shape[:2])))
    painted = painted.repeat(factor, 0).repeat(factor, 1)
    head, foot = 74, 56
    canvas = np.full((painted.shape[0] + head + foot, max(painted.shape[1], 560), 3), 255, np.uint8)
    left = (canvas.shape[1] - painted.shape[1]) // 2
    canvas[head : head + painted.shape[0], left : left + painted.shape[1]] = painted
    figure, axes = _pixel_axes(canvas)

    def outline(mask: np.ndarray, colour: object, **style: object) -> None:
        lines = [(line + 0.5) * factor - 0.5 + (left, head) for line in _outlines(mask)]
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
    _write(axes, _shortened(case.name, 60), left + 6, 24, size=13, fontweight="bold")
    measured = (
        f"Dice {_shown(scores.f1)} · AUC-ROC {_shown(scores.auc_roc)} · FOV pixels, "
        f"threshold {threshold:.3g}"
    )
    _write(axes, measured, left + 6, 52, size=11)
    figure.legend(handles=handles, loc="lower center", ncols=4, frameon=False, fontsize=10)
    save_figure(figure, file, dots_per_inch=100)


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
        part: "train", "validation" or "test".
    """

    title: str
    image: np.ndarray
    truth: np.ndarray
    field_of_view: np.ndarray
    part: str


def contact_sheet(
    file: Path, entries: Iterable[ContactSheetEntry], structure: str, limit: int = 60
) -> None:
    """Thumbnails grouped by part, with the outlines of truth and field of view.

    Args:
        file: the PNG.
        entries: the images, taken one at a time; their parts appear in the order met.
        structure: what the truth outlines, for the legend.
        limit: if there are more images than this, each part shows an equal number of its first
            ones, and a note says how many more it has.
    """
    side, gap, label, head, columns = 256, 12, 24, 48, 6
    parts = _thumbnails(entries, side, limit)
    rows = sum(-(-len(drawn) // columns) for _, drawn in parts.values())
    height = head * (1 + len(parts)) + rows * (side + label + gap)
    canvas = np.full((height, columns * (side + gap) + gap, 3), 255, np.uint8)
    texts, top = [], head
    for part, (images, drawn) in parts.items():
        heading = f"{part} · {images} image{'s' * (images != 1)}"
        if images > len(drawn):
            heading += f" ({images - len(drawn)} more than shown here)"
        texts.append((heading, gap, top + head / 2, 13, "bold"))
        top += head
        for first in range(0, len(drawn), columns):
            for column, (title, thumbnail) in enumerate(drawn[first : first + columns]):
                left = gap + column * (side + gap)
                _paste(canvas, thumbnail, top + label, left, side)
                texts.append((_shortened(title, 38), left, top + label / 2, 9, "normal"))
            top += side + label + gap
    figure, axes = _pixel_axes(canvas)
    for text, x, y, size, weight in texts:
        _write(axes, text, x, y, size=size, fontweight=weight)
    handles = [
        Line2D([], [], color=YELLOW, linewidth=3, label=structure),
        Line2D([], [], color=SKY, linewidth=3, label="field of view (FOV)"),
    ]
    figure.legend(handles=handles, loc="upper right", ncols=2, frameon=False, fontsize=11)
    save_figure(figure, file, dots_per_inch=100)


def _thumbnails(
    entries: Iterable[ContactSheetEntry], side: int, limit: int
) -> dict[str, tuple[int, list[tuple[str, np.ndarray]]]]:
    """For each part how many images it has, and the first ones' titles and thumbnails."""
    counts: Counter[str] = Counter()
    drawn: dict[str, list[tuple[str, np.ndarray]]] = {}
    for entry in entries:
        counts[entry.part] += 1
        if counts[entry.part] <= limit:
            thumbnail = _outlined_thumbnail(entry, side)
            drawn.setdefault(entry.part, []).append((entry.title, thumbnail))
    most = limit if counts.total() <= limit else max(1, limit // len(counts))
    return {part: (counts[part], group[:most]) for part, group in drawn.items()}


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
            _drawable(title),
            color=INK,
            fontsize=12,
            fontweight="bold",
            parse_math=False,
            fontfamily=_font_families(),
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


def _outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Closed outlines of a mask and its holes, each (points, 2) float64 of x, y in pixels."""
    return [np.concatenate([c, c[:1]]).astype(float) for c in contours(mask)]


def _outlined_thumbnail(entry: ContactSheetEntry, side: int) -> np.ndarray:
    thumbnail = _fitted(_rgb(entry.image), side)
    scale = side / max(entry.image.shape[:2])
    for mask, colour in ((entry.field_of_view, SKY), (entry.truth, YELLOW)):
        rgb = tuple(bytes.fromhex(colour[1:]))
        lines = [np.round(line * scale).astype(np.int32) for line in _outlines(mask)]
        cv2.polylines(thumbnail, lines, True, rgb, 1, cv2.LINE_AA)
    return thumbnail


# --- text, style, saving --------------------------------------------------------------------------


@functools.cache
def _font_families() -> list[str]:
    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *[name for name in CHINESE_FONTS if name in installed][:1]]


@functools.cache
def _known_characters() -> frozenset[int]:
    fonts = [get_font(findfont(FontProperties(family=name))) for name in _font_families()]
    return frozenset().union(*(font.get_charmap() for font in fonts))


def _drawable(text: str) -> str:
    """The text with "?" for what no installed font can draw: Matplotlib would warn of each."""
    known = _known_characters()
    return "".join(c if ord(c) in known and c.isprintable() else "?" for c in text)


def _shortened(text: str, length: int) -> str:
    if len(text) <= length:
        return text
    return f"{text[: length // 2]}…{text[-(length - length // 2 - 1) :]}"


def _shown(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _write(axes: Axes, text: str, x: float, y: float, size: float, **style: object) -> None:
    style = {"va": "center", "color": INK} | style
    axes.text(
        x, y, _drawable(text), fontsize=size, parse_math=False, fontfamily=_font_families(), **style
    )


def _say_in_middle(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=INK)


def new_figure(width: float, height: float) -> Figure:
    """A white figure in inches."""
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _pixel_axes(canvas: np.ndarray) -> tuple[Figure, Axes]:
    """A figure that shows `canvas` pixel for pixel at 100 dots an inch, for writing and drawing."""
    height, width = canvas.shape[:2]
    figure = new_figure(width / 100, height / 100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(canvas, interpolation="none", aspect="auto")
    axes.set_axis_off()
    return figure, axes


def style_axes(axes: Axes) -> None:
    """Faint lines, no frame."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.grid(color="#E6E6E6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(color=FAINT, labelcolor=INK, labelsize=9)


def _legend_below(axes: Axes) -> None:
    """Where it hides no curve; whatever there is to explain."""
    if not axes.get_legend_handles_labels()[0]:
        return
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(-0.02, -0.1),
        fontsize=8.5,
        frameon=False,
        labelcolor=INK,
    )


def _legend(axes: Axes, place: str) -> bool:
    """Whether there was anything to explain."""
    anything = bool(axes.get_legend_handles_labels()[0])
    if anything:
        axes.legend(loc=place, fontsize=8.5, framealpha=0.9, edgecolor="none", labelcolor=INK)
    return anything


def save_figure(figure: Figure, file: Path, dots_per_inch: int = DOTS_PER_INCH) -> None:
    """Write a PNG that appears whole."""
    with written_beside(file) as (beside,):
        figure.savefig(beside, format="png", dpi=dots_per_inch)


def _save_pixels(pixels: np.ndarray, file: Path, longest: int = 12_000) -> None:
    if max(pixels.shape) > longest:
        pixels = _fitted(pixels, longest)
    with written_beside(file) as (beside,):
        Image.fromarray(pixels).save(beside, format="PNG")
