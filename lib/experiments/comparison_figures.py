"""Pictures of all variants of a plan in one: curves, boxes, agreement of areas, calibration."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.evaluation.bland_altman_and_calibration import limits_of_agreement
from lib.evaluation.patient_statistics import SCORES, PatientCounts
from lib.evaluation.pixel_scores import f1_score
from lib.experiments.pooled_folds import DARKNESS, HUMAN, Pooled, Variant
from lib.figures.style import (
    BLUE,
    FAINT,
    INK,
    NETWORKS,
    VERMILION,
    new_figure,
    save_figure,
    style_axes,
)

GRID = np.linspace(0, 1, 1001)
"""Where curves of several seeds are averaged, vertically (Fawcett, Pattern Recogn. Lett. 27, 2006)."""

Curve = Callable[[np.ndarray, np.ndarray, float, float], tuple[np.ndarray, np.ndarray]]
"""From pixels found and falsely marked at falling thresholds, and all there are, to x and y."""


# --- curves ---------------------------------------------------------------------------------------


def roc_curves(file: Path, variants: Sequence[Variant]) -> None:
    """ROC curves of all variants and of blurred darkness over the pooled FOV pixels of all patients."""
    figure, axes = _curve_axes("ROC curve", variants)
    axes.set_xlabel("1 − specificity (false positive rate)")
    axes.set_ylabel("Sensitivity (true positive rate)")
    _draw_curves(axes, variants, "auc_roc", lambda tp, fp, p, n: (fp / n, tp / p))
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=":", label="chance")
    _legend_right(axes, "AUC-ROC [95 % interval]")
    save_figure(figure, file)


def precision_recall_curves(file: Path, variants: Sequence[Variant]) -> None:
    """Precision over recall of all variants and of blurred darkness, as `roc_curves`."""
    figure, axes = _curve_axes("Precision-recall curve", variants)
    axes.set_xlabel("Recall (sensitivity)")
    axes.set_ylabel("Precision")
    _draw_curves(
        axes, variants, "auc_pr", lambda tp, fp, p, n: (tp / p, tp / np.maximum(tp + fp, 1))
    )
    tn, fp, fn, tp = variants[0].confusion[0].sum(axis=0)
    prevalence = (tp + fn) / (tn + fp + fn + tp)
    label = f"chance: prevalence {prevalence:.3f}"
    axes.axhline(prevalence, color=FAINT, linewidth=1, linestyle=":", label=label)
    _legend_right(axes, "AUC-PR [95 % interval]")
    save_figure(figure, file)


def _curve_axes(title: str, variants: Sequence[Variant]) -> tuple[Figure, Axes]:
    figure = new_figure(8.6, 5.6)
    axes = figure.add_axes((0.08, 0.1, 0.8 * 5.6 / 8.6, 0.8))
    style_axes(axes)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    _title(axes, title, variants)
    return figure, axes


def _draw_curves(axes: Axes, variants: Sequence[Variant], area: str, curve: Curve) -> None:
    """Each variant's curve with its operating point, the baseline's, and the second observer."""
    baselines = variants[0].baselines
    if np.isnan(baselines[DARKNESS].estimate.values[SCORES.index(area)]):
        axes.text(0.5, 0.55, "n/a: all FOV pixels are of one class", ha="center", color=INK)
        return
    for number, variant in enumerate(variants):
        style = _line(number)
        _draw_curve(axes, variant.name, variant.network, area, curve, linewidth=1.8, **style)
        x, y = _mean_point(variant.network, curve)
        axes.plot(x, y, "o", color=style["color"], markeredgecolor="white", markersize=7, zorder=5)
    darkness = {"color": FAINT, "linewidth": 1.8, "linestyle": "--"}
    _draw_curve(axes, DARKNESS, baselines[DARKNESS], area, curve, **darkness)
    axes.plot([], [], "o", color=INK, markeredgecolor="white", label="at the networks' thresholds")
    if HUMAN in baselines:
        x, y = _mean_point(baselines[HUMAN], curve)
        axes.plot(x, y, "D", color=INK, linestyle="none", zorder=5, label=HUMAN)


def _draw_curve(
    axes: Axes, name: str, pooled: Pooled, area: str, curve: Curve, **style: object
) -> None:
    row = SCORES.index(area)
    low, high = pooled.estimate.interval()[row]
    interval = f" [{low:.3f}, {high:.3f}]" if np.isfinite(low) else ""
    label = f"{pooled.estimate.values[row]:.3f}{interval}  {name}"
    # Precision of the first few pixels found is noise.
    grid = GRID if area == "auc_roc" else GRID[5:]
    lines = [np.interp(grid, *_points(counts, curve)) for counts in pooled.counts]
    axes.plot(grid, np.mean(lines, axis=0), label=label, **style)


def _points(counts: PatientCounts, curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """The whole curve, from nothing found on."""
    tp = np.cumsum(counts.positives.sum(axis=0)[::-1])
    fp = np.cumsum(counts.negatives.sum(axis=0)[::-1])
    return curve(np.append(0, tp), np.append(0, fp), tp[-1], fp[-1])


def _mean_point(pooled: Pooled, curve: Curve) -> np.ndarray:
    """(2,): x and y, the mean over the seeds."""
    points = []
    for counts in pooled.counts:
        tn, fp, fn, tp = counts.confusion.sum(axis=0)
        points.append(curve(tp, fp, tp + fn, tn + fp))
    return np.mean(points, axis=0)


# --- images ---------------------------------------------------------------------------------------


def box_plot(file: Path, variants: Sequence[Variant]) -> None:
    """Dice of every image, a box a variant, the mean over the seeds of training."""
    figure = new_figure(7.5, 1.3 + 0.5 * len(variants))
    axes = figure.subplots()
    style_axes(axes)
    scatter = np.random.default_rng(0)
    for number, variant in enumerate(variants):
        _, fp, fn, tp = np.moveaxis(variant.confusion, -1, 0)
        dice = np.mean(f1_score(tp, fp, fn), axis=0)
        dice = dice[np.isfinite(dice)]  # no positive pixel, predicted or true: not defined
        axes.boxplot(
            dice,
            positions=[-number],
            orientation="horizontal",
            widths=0.55,
            showfliers=False,  # all points are drawn
            boxprops={"color": BLUE},
            medianprops={"color": VERMILION, "linewidth": 2},
            whiskerprops={"color": BLUE},
            capprops={"color": BLUE},
        )
        heights = -number + scatter.uniform(-0.16, 0.16, dice.size)
        axes.plot(dice, heights, "o", color=INK, markersize=3.5, alpha=0.55)
    axes.set_yticks(-np.arange(len(variants)), [variant.name for variant in variants])
    axes.set(xlim=(-0.02, 1.02), ylim=(0.6 - len(variants), 0.6))
    axes.set_xlabel("Dice (box: median and quartiles; whiskers: up to 1.5 box lengths)")
    _title(axes, "Dice of every image", variants)
    figure.tight_layout()
    save_figure(figure, file)


def bland_altman(file: Path, variants: Sequence[Variant], structure: str) -> None:
    """Predicted minus true area of every image over their mean (Bland and Altman, 1986).

    Args:
        file: the PNG.
        variants: a panel each; every seed's prediction of an image is a point.
        structure: whose area it is, e.g. "CNP".
    """
    columns = min(4, len(variants))
    rows = -(-len(variants) // columns)
    figure = new_figure(max(5.6, 1 + 3.2 * columns), 0.9 + 2.9 * rows)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(variants) :]:
        axes.set_axis_off()
    for axes in grid.flat[len(variants) - columns :]:
        axes.tick_params(labelbottom=True)  # also above an empty place
    for axes, variant in zip(grid.flat, variants, strict=False):
        tn, fp, fn, tp = np.moveaxis(variant.confusion.reshape(-1, 4), -1, 0) * 100
        pixels = (tn + fp + fn + tp) / 100
        predicted, true = (tp + fp) / pixels, (tp + fn) / pixels
        _draw_agreement(axes, variant.name, predicted, true)
    figure.supxlabel(
        f"Mean of predicted and true {structure} area, % of the field of view", size=10
    )
    for axes in grid[:, 0]:
        axes.set_ylabel("Predicted − true, % points", size=10)
    figure.tight_layout()
    save_figure(figure, file)


def _draw_agreement(axes: Axes, name: str, predicted: np.ndarray, true: np.ndarray) -> None:
    style_axes(axes)
    limits = limits_of_agreement(predicted, true)
    axes.plot((predicted + true) / 2, predicted - true, "o", color=BLUE, markersize=4.5, alpha=0.7)
    axes.axhline(0, color=FAINT, linewidth=0.8)
    about = f"bias {limits.bias:+.1f}"
    axes.axhline(limits.bias, color=VERMILION, linewidth=1.6)
    if limits.lower is not None:
        for limit in (limits.lower, limits.upper):
            axes.axhline(limit, color=VERMILION, linewidth=1.1, linestyle="--")
        about += f", 95 % limits {limits.lower:+.1f} to {limits.upper:+.1f}"
    about = about.replace("-", "−")
    axes.set_title(name, loc="left", color=INK, fontsize=10, fontweight="bold", pad=18)
    axes.text(0, 1.03, about, transform=axes.transAxes, fontsize=8.5, color=INK)


# --- calibration ----------------------------------------------------------------------------------


def calibration(file: Path, variants: Sequence[Variant]) -> None:
    """Reliability diagram, expected calibration errors, and how many pixels each bin holds."""
    figure = new_figure(8.6, 6.8)
    left, width = 0.1, 0.66 * 6.8 / 8.6
    axes = figure.add_axes((left, 0.26, width, 0.66))
    below = figure.add_axes((left, 0.08, width, 0.14), sharex=axes)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=":", label="perfect")
    for number, variant in enumerate(variants):
        found, style = variant.reliability, _line(number)
        label = f"{found.expected_calibration_error:.3f}  {variant.name}"
        points = found.probability, found.frequency
        axes.plot(*points, marker="o", markersize=4.5, linewidth=1.6, label=label, **style)
        edges = np.linspace(0, 1, found.pixels.size + 1)
        below.stairs(found.pixels / found.pixels.sum(), edges, linewidth=1.4, **style)
    for one in (axes, below):
        style_axes(one)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.tick_params(labelbottom=False)
    axes.set_ylabel("Share of pixels that are positive")
    below.set_yscale("log")
    below.set_ylabel("Share of\nall pixels", fontsize=9)
    below.set_xlabel("Predicted probability")
    _title(axes, "Calibration", variants)
    _legend_right(axes, "Expected calibration error")
    save_figure(figure, file)


# --- what they share ------------------------------------------------------------------------------


def _line(number: int) -> dict[str, str]:
    """The colours come again, dashed, where they do not suffice."""
    again = number // len(NETWORKS) % 2
    return {"color": NETWORKS[number % len(NETWORKS)], "linestyle": "--" if again else "-"}


def _title(axes: Axes, text: str, variants: Sequence[Variant]) -> None:
    """What is drawn, and below it of how many images and patients."""
    images = max(len(variant.images) for variant in variants)
    patients = max(len(variant.network.counts[0].patients) for variant in variants)
    axes.set_title(text, loc="left", color=INK, fontsize=12, fontweight="bold", pad=22)
    axes.annotate(
        f"FOV of {images} image{'s' * (images != 1)} of {patients} patient{'s' * (patients != 1)}",
        (0, 1),
        (0, 7),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=9,
        color=INK,
    )


def _legend_right(axes: Axes, title: str) -> None:
    legend = axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.02, 1.02),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        title=title,
        title_fontproperties={"size": 9, "weight": "bold"},
    )
    legend.set_alignment("left")
