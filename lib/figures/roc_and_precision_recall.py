"""ROC and precision-recall curves of one network or of several."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.figures.style import (
    FAINT,
    INK,
    legend_below,
    legend_right,
    mark_operating_point,
    new_figure,
    save_figure,
    style_axes,
    title_and_subtitle,
    write_in_middle,
)


@dataclass(frozen=True, eq=False)
class Curve:
    """One curve.

    Attributes:
        label: in the legend.
        x: (points,) false positive rate, or recall.
        y: (points,) true positive rate, or precision.
        colour: as Matplotlib takes it.
        width: of the line, in points.
        dashed: whether the line is dashed.
    """

    label: str
    x: np.ndarray
    y: np.ndarray
    colour: str
    width: float = 2.0
    dashed: bool = False


@dataclass(frozen=True)
class Point:
    """One operating point; "o" is a network at its threshold, "D" a second observer.

    Attributes:
        label: in the legend; empty for none.
        x: false positive rate, or recall.
        y: true positive rate, or precision.
        colour: as Matplotlib takes it.
        marker: "o" or "D".
    """

    label: str
    x: float
    y: float
    colour: str = INK
    marker: Literal["o", "D"] = "o"


def roc_figure(
    file: Path,
    curves: Sequence[Curve],
    points: Sequence[Point],
    *,
    subtitle: str,
    legend_title: str = "",
    formats: Sequence[str] = ("png",),
) -> None:
    """Draw ROC curves, the diagonal of chance, and operating points.

    Args:
        file: the PNG; other formats have other endings.
        curves: x is the false positive rate; none where the area under the curve is not defined.
        points: operating points.
        subtitle: which pixels are counted.
        legend_title: puts the legend, with this title, to the right of the axes; empty: below them.
        formats: as `save_figure`.
    """
    labels = ("1 − specificity (false positive rate)", "Sensitivity (true positive rate)")
    chance = Curve("chance (0.500)", np.array([0, 1]), np.array([0, 1]), FAINT, 1, dashed=True)
    figure = _drawn(("ROC curve", subtitle), labels, curves, chance, points, legend_title)
    save_figure(figure, file, formats=formats)


def precision_recall_figure(
    file: Path,
    curves: Sequence[Curve],
    points: Sequence[Point],
    *,
    prevalence: float | None,
    subtitle: str,
    legend_title: str = "",
    formats: Sequence[str] = ("png",),
) -> None:
    """Draw precision over recall, the line of chance, and operating points, as `roc_figure`.

    `prevalence` is the share of the positive pixels, the precision of chance; None without pixels.
    """
    chance = None
    if prevalence is not None:
        label, level = f"chance: prevalence {prevalence:.3f}", np.full(2, prevalence)
        chance = Curve(label, np.array([0, 1]), level, FAINT, 1, dashed=True)
    titles = ("Precision-recall curve", subtitle)
    labels = ("Recall (sensitivity)", "Precision")
    figure = _drawn(titles, labels, curves, chance, points, legend_title)
    save_figure(figure, file, formats=formats)


def _drawn(
    titles: tuple[str, str],
    axis_labels: tuple[str, str],
    curves: Sequence[Curve],
    chance: Curve | None,
    points: Sequence[Point],
    legend_title: str,
) -> Figure:
    width, height = (8.6, 5.6) if legend_title else (5.8, 7.1)
    side = 0.8 * height if legend_title else 0.84 * width
    figure = new_figure(width, height)
    bottom = 0.1 if legend_title else 0.22
    axes = figure.add_axes((0.7 / width, bottom, side / width, side / height))
    style_axes(axes)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set(xlabel=axis_labels[0], ylabel=axis_labels[1])
    title_and_subtitle(axes, *titles)
    for number, curve in enumerate(curves):
        _plot_curve(axes, curve, zorder=3 - number / len(curves))
    if not curves:
        write_in_middle(axes, "n/a: all FOV pixels are of one class")
    if chance:
        _plot_curve(axes, chance, zorder=1)
    for point in points:
        mark_operating_point(axes, point.x, point.y, point.label, point.colour, point.marker)
    if legend_title:
        legend_right(axes, legend_title)
    else:
        legend_below(axes)
    return figure


def _plot_curve(axes: Axes, curve: Curve, zorder: float) -> None:
    axes.plot(
        curve.x,
        curve.y,
        color=curve.colour,
        linewidth=curve.width,
        linestyle="--" if curve.dashed else "-",
        label=curve.label,
        zorder=zorder,
    )
