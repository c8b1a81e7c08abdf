"""Figures that compare all variants of a plan: scores, curves, Dice of each image, areas, calibration.

Each takes its file, the variants, and the formats of `save_figure`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from lib.evaluation.bland_altman_and_calibration import limits_of_agreement
from lib.evaluation.patient_statistics import SCORES, PatientCounts
from lib.evaluation.performance_report import ROWS
from lib.evaluation.pixel_scores import f1_score
from lib.experiments.pooled_folds import DARKNESS, HUMAN, Pooled, Variant
from lib.figures.charts import bar_chart
from lib.figures.roc_and_precision_recall import Curve, Point, precision_recall_figure, roc_figure
from lib.figures.style import (
    BLUE,
    FAINT,
    INK,
    NETWORKS,
    VERMILION,
    drawable,
    font_families,
    legend_right,
    new_figure,
    save_figure,
    shortened,
    style_axes,
    title_and_subtitle,
)

GRID = np.linspace(0, 1, 1001)
"""Where curves of several seeds are averaged, vertically (Fawcett, Pattern Recogn. Lett. 27, 2006)."""

Rates = Callable[[np.ndarray, np.ndarray, float, float], tuple[np.ndarray, np.ndarray]]
"""From true and false positives at falling thresholds, and all positives and negatives, to x and y."""


def roc_curves(file: Path, variants: Sequence[Variant], formats: Sequence[str]) -> None:
    """ROC curves of all variants and of blurred darkness over the pooled FOV pixels of all patients."""
    drawn = _curves_and_points(variants, "auc_roc", _rates_of_roc)
    legend_title = "AUC-ROC [95 % interval]"
    roc_figure(file, *drawn, subtitle=_subtitle(variants), legend_title=legend_title, formats=formats)


def precision_recall_curves(file: Path, variants: Sequence[Variant], formats: Sequence[str]) -> None:
    """Precision over recall of all variants and of blurred darkness, as `roc_curves`."""
    tn, fp, fn, tp = variants[0].confusion[0].sum(axis=0)
    precision_recall_figure(
        file,
        *_curves_and_points(variants, "auc_pr", _recall_and_precision),
        prevalence=float((tp + fn) / (tn + fp + fn + tp)),
        subtitle=_subtitle(variants),
        legend_title="AUC-PR [95 % interval]",
        formats=formats,
    )


def _rates_of_roc(tp: np.ndarray, fp: np.ndarray, p: float, n: float) -> tuple[np.ndarray, np.ndarray]:
    return fp / n, tp / p


def _recall_and_precision(
    tp: np.ndarray, fp: np.ndarray, p: float, n: float
) -> tuple[np.ndarray, np.ndarray]:
    return tp / p, tp / np.maximum(tp + fp, 1)


def _curves_and_points(
    variants: Sequence[Variant], area: str, rates: Rates
) -> tuple[list[Curve], list[Point]]:
    """The curve and the operating point of each variant, the means over its seeds, and of the baselines.

    Blurred darkness has a curve, a second observer has a point. None of them where no area is defined.
    """
    baselines = variants[0].baselines
    darkness = baselines[DARKNESS]
    if not np.isfinite(darkness.estimate.values[SCORES.index(area)]):
        return [], []
    curves, points = [], []
    names, name_of_darkness = _names(variants)
    for number, (name, variant) in enumerate(zip(names, variants, strict=True)):
        colour, dashed = _line(number)
        curves.append(_mean_curve(name, variant.network, area, rates, colour, dashed=dashed))
        label = "" if number else _thresholds(variants)
        points.append(Point(label, *_mean_point(variant.network, rates), colour))
    curves.append(_mean_curve(name_of_darkness, darkness, area, rates, FAINT, dashed=True))
    if HUMAN in baselines:
        points.append(Point(HUMAN, *_mean_point(baselines[HUMAN], rates), INK, "D"))
    return curves, points


def _thresholds(variants: Sequence[Variant]) -> str:
    """What the legend says of the operating points of the networks."""
    every = [variant.thresholds for variant in variants]
    low, high = min(one.min() for one in every), max(one.max() for one in every)
    if low == high:
        return f"at the threshold {low:.3g}"
    by_fold = ", differ by fold" if any((one != one[:, :1]).any() for one in every) else ""
    return f"at the networks' thresholds\n({low:.3g} to {high:.3g}{by_fold})"


def _mean_curve(name: str, pooled: Pooled, area: str, rates: Rates, colour: str, *, dashed: bool) -> Curve:
    """The mean curve over the seeds; its label has the area and the interval of the area."""
    # Precision is not defined where no pixel is marked, and that of the first few pixels is noise.
    grid, first = (GRID, 0) if area == "auc_roc" else (GRID[5:], 1)
    curves = (_whole_curve(counts, rates) for counts in pooled.counts)
    lines = [np.interp(grid, x[first:], y[first:]) for x, y in curves]
    row = SCORES.index(area)
    low, high = pooled.estimate.interval()[row]
    interval = f" [{low:.3f}, {high:.3f}]" if np.isfinite(low) else ""
    label = f"{pooled.estimate.values[row]:.3f}{interval}  {name}"
    return Curve(label, grid, np.mean(lines, axis=0), colour, dashed=dashed)


def _whole_curve(counts: PatientCounts, rates: Rates) -> tuple[np.ndarray, np.ndarray]:
    """From the threshold that marks no pixel to the one that marks all."""
    tp = np.cumsum(counts.positives.sum(axis=0)[::-1])
    fp = np.cumsum(counts.negatives.sum(axis=0)[::-1])
    return rates(np.append(0, tp), np.append(0, fp), tp[-1], fp[-1])


def _mean_point(pooled: Pooled, rates: Rates) -> tuple[float, float]:
    confusions = (counts.confusion.sum(axis=0) for counts in pooled.counts)
    x, y = np.mean([rates(tp, fp, tp + fn, tn + fp) for tn, fp, fn, tp in confusions], axis=0)
    return float(x), float(y)


def results(file: Path, variants: Sequence[Variant], formats: Sequence[str]) -> None:
    """Scores of all variants and of blurred darkness as bars, with their 95 % intervals over patients."""
    titles = [ROWS[score].split(" (")[0] for score in SCORES]
    names, name_of_darkness = _names(variants)
    estimates = dict(zip(names, (variant.network.estimate for variant in variants), strict=True))
    estimates[name_of_darkness] = variants[0].baselines[DARKNESS].estimate
    groups = {name: np.column_stack([e.values, e.interval()]) for name, e in estimates.items()}
    colours, dashed = zip(*map(_line, range(len(variants))), strict=True)
    subtitle = f"{_subtitle(variants)}, pixels pooled; lines: 95 % intervals, bootstrap of patients"
    hatched = (*dashed, False)
    bar_chart(file, titles, groups, (*colours, FAINT), hatched=hatched, subtitle=subtitle, formats=formats)


def box_plot(file: Path, variants: Sequence[Variant], formats: Sequence[str]) -> None:
    """Dice of each image, one box for each variant; with several seeds the mean over the seeds."""
    figure = new_figure(7.5, 1.3 + 0.5 * len(variants))
    axes = figure.subplots()
    style_axes(axes)
    scatter = np.random.default_rng(0)
    for number, variant in enumerate(variants):
        _, fp, fn, tp = np.moveaxis(variant.confusion, -1, 0)
        dice = np.mean(f1_score(tp, fp, fn), axis=0)
        dice = dice[np.isfinite(dice)]  # not defined without a positive pixel, predicted or true
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
    names = [drawable(name) for name in _names(variants)[0]]
    axes.set_yticks(-np.arange(len(variants)), names, parse_math=False, fontfamily=font_families())
    label = "Dice (box: quartiles; whiskers: 1.5 box lengths)"
    axes.set(xlim=(-0.02, 1.02), ylim=(0.6 - len(variants), 0.6), xlabel=label)
    title_and_subtitle(axes, "Dice of each image", _subtitle(variants))
    figure.tight_layout()
    save_figure(figure, file, formats=formats)


def bland_altman(file: Path, variants: Sequence[Variant], formats: Sequence[str]) -> None:
    """Predicted minus true area over their mean (Bland and Altman, 1986).

    Each variant has a panel, with one point for each image and seed.
    """
    columns = min(4, len(variants))
    rows = -(-len(variants) // columns)
    figure = new_figure(max(5.6, 1 + 3.2 * columns), 0.9 + 2.9 * rows)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(variants) :]:
        axes.set_axis_off()
    for axes in grid.flat[len(variants) - columns :]:
        axes.tick_params(labelbottom=True)  # also above an empty panel
    for axes, name, variant in zip(grid.flat, _names(variants)[0], variants, strict=False):
        tn, fp, fn, tp = np.moveaxis(variant.confusion, -1, 0) * 100
        pixels = (tn + fp + fn + tp) / 100
        _draw_agreement(axes, name, (tp + fp) / pixels, (tp + fn) / pixels)
    structure = variants[0].runs[0].configuration.data_attributes.structure
    label = drawable(f"Mean of predicted and true {structure} area, % of the field of view")
    if any(len(variant.confusion) > 1 for variant in variants):
        label += "\n(one point for each image and seed of the training; lines: means over the seeds)"
    figure.supxlabel(label, size=10, fontfamily=font_families())
    for axes in grid[:, 0]:
        axes.set_ylabel("Predicted − true, % points", size=10)
    figure.tight_layout()
    save_figure(figure, file, formats=formats)


def _draw_agreement(axes: Axes, name: str, predicted: np.ndarray, true: np.ndarray) -> None:
    """Draw the areas (seeds, images); bias and limits are means over the seeds, as in results.md."""
    style_axes(axes)
    each = [limits_of_agreement(*areas) for areas in zip(predicted, true, strict=True)]
    axes.plot(
        ((predicted + true) / 2).ravel(),
        (predicted - true).ravel(),
        "o",
        color=BLUE,
        markersize=4.5,
        alpha=0.7,
    )
    axes.axhline(0, color=FAINT, linewidth=0.8)
    bias = float(np.mean([limits.bias for limits in each]))
    about = f"bias {bias:+.1f}"
    axes.axhline(bias, color=VERMILION, linewidth=1.6)
    if all(limits.lower is not None and limits.upper is not None for limits in each):
        lower, upper = (np.mean([getattr(limits, end) for limits in each]) for end in ("lower", "upper"))
        for limit in (lower, upper):
            axes.axhline(limit, color=VERMILION, linewidth=1.1, linestyle="--")
        about += f", 95 % limits {lower:+.1f} to {upper:+.1f}"
    about = about.replace("-", "−")
    title = axes.set_title(shortened(drawable(name), 40), loc="left", color=INK, fontsize=10, pad=18)
    title.set(fontweight="bold", fontfamily=font_families(), parse_math=False)
    axes.text(0, 1.03, about, transform=axes.transAxes, fontsize=8.5, color=INK)


def calibration(file: Path, variants: Sequence[Variant], formats: Sequence[str]) -> None:
    """Reliability diagram, expected calibration errors, and the share of pixels in each bin."""
    figure = new_figure(8.6, 6.8)
    left, width = 0.1, 0.66 * 6.8 / 8.6
    axes = figure.add_axes((left, 0.26, width, 0.66))
    below = figure.add_axes((left, 0.08, width, 0.14), sharex=axes)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=":", label="perfect")
    names, _ = _names(variants)
    for number, variant in enumerate(variants):
        found = variant.reliability
        colour, dashed = _line(number)
        style = "--" if dashed else "-"
        label = f"{found.expected_calibration_error:.3f}  {names[number]}"
        points = found.probability, found.frequency
        axes.plot(*points, style, color=colour, marker="o", markersize=4.5, label=label)
        edges = np.linspace(0, 1, found.pixels.size + 1)
        below.stairs(found.pixels / found.pixels.sum(), edges, linewidth=1.4, color=colour, linestyle=style)
    for one in (axes, below):
        style_axes(one)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), ylabel="Share of pixels that are positive")
    axes.tick_params(labelbottom=False)
    below.set(yscale="log", xlabel="Predicted probability")
    below.set_ylabel("Share of\nall pixels", fontsize=9)
    title_and_subtitle(axes, "Calibration", _subtitle(variants))
    legend_right(axes, "Expected calibration error")
    save_figure(figure, file, formats=formats)


def _line(number: int) -> tuple[str, bool]:
    """Colour of the n-th variant, and whether its line is dashed: so the colours repeat."""
    return NETWORKS[number % len(NETWORKS)], number // len(NETWORKS) % 2 == 1


def _names(variants: Sequence[Variant]) -> tuple[list[str], str]:
    """The name of each variant, with its number of images if these differ; and that of the darkness drawn."""
    numbers = [len(variant.images) for variant in variants]
    if len(set(numbers)) == 1:
        return [variant.name for variant in variants], DARKNESS
    names = [f"{v.name} ({_counted(n, n, 'image')})" for v, n in zip(variants, numbers, strict=True)]
    return names, f"{DARKNESS} of the images of {variants[0].name}"


def _subtitle(variants: Sequence[Variant]) -> str:
    images = [len(variant.images) for variant in variants]
    patients = [len(variant.network.counts[0].patients) for variant in variants]
    counted = (_counted(min(n), max(n), word) for n, word in ((images, "image"), (patients, "patient")))
    return f"FOV of {' of '.join(counted)}"


def _counted(fewest: int, most: int, word: str) -> str:
    return f"{fewest if fewest == most else f'{fewest} to {most}'} {word}{'s' * (most != 1)}"
