"""The angiogram with truth and prediction in colour."""

from pathlib import Path

import cv2
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lib.evaluation.pixel_scores import Scores
from lib.evaluation.scoring import PredictedImage
from lib.figures.mosaics import to_rgb
from lib.figures.style import INK, format_score, pixel_axes, save_with_canvas, shortened, write
from lib.images.masks import without_small_areas
from lib.images.outlines import closed_outlines

OVERLAY_COLOURS = {
    "true positive": (86, 180, 233),
    "false positive": (213, 94, 0),
    "false negative": (240, 228, 66),
}
"""RGB of `overlay`: sky blue, vermilion, yellow."""


SPECK = 12
"""Pixels; smaller areas get no outline, whose ring would hide what lies around them."""


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
        f"Dice {format_score(scores.f1)} · AUC-ROC {format_score(scores.auc_roc)} · FOV pixels, "
        f"threshold {threshold:.3g}"
    )
    write(axes, measured, left + 6, 52, size=11)
    figure.legend(handles=handles, loc="lower center", ncols=4, frameon=False, fontsize=10)
    save_with_canvas(figure, canvas, file)


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
    grey = cv2.cvtColor(to_rgb(case.original), cv2.COLOR_RGB2GRAY)
    painted = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    for name, region in regions.items():
        painted[region] = 0.62 * painted[region] + 0.38 * np.array(OVERLAY_COLOURS[name])
    return painted.round().astype(np.uint8), regions
