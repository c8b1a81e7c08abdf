"""Curves and charts of one experiment: one function, one PNG, which appears whole or not at all."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lib.evaluation import Evaluation
from lib.figure_style import (
    BLUE,
    FAINT,
    INK,
    NETWORKS,
    ORANGE,
    VERMILION,
    legend,
    legend_below,
    new_figure,
    save_figure,
    say_in_middle,
    style_axes,
)
from lib.pixel_scores import Curves


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
    legend_below(axes)
    save_figure(figure, file)


def precision_recall_figure(file: Path, evaluation: Evaluation) -> None:
    """Precision over recall of the network and of blurred darkness over the pooled FOV pixels."""
    figure, axes = _square_axes("Precision-recall curve", evaluation)
    axes.set_xlabel("Recall (sensitivity)")
    axes.set_ylabel("Precision")
    # The curve ends, as scikit-learn's, with an invented point at recall 0, precision 1.
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
    legend_below(axes)
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
        if not legend(axes, "best"):
            say_in_middle(axes, "no values yet")
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
        say_in_middle(axes, "n/a: all FOV pixels are of one class")


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
