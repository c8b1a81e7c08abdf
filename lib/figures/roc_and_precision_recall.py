"""Curves and charts of one experiment: one function, one PNG, which appears whole or not at all."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.evaluation.pixel_scores import Curves
from lib.evaluation.scoring import Evaluation
from lib.figures.style import (
    BLUE,
    FAINT,
    INK,
    ORANGE,
    VERMILION,
    legend_below,
    mark_operating_point,
    new_figure,
    save_figure,
    style_axes,
    write_in_middle,
)


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
        mark_operating_point(
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
        mark_operating_point(
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
        write_in_middle(axes, "n/a: all FOV pixels are of one class")


def _human(axes: Axes, x: float, y: float, f1: float) -> None:
    label = f"second observer (F1 {f1:.3f})"
    axes.plot([x], [y], linestyle="none", marker="D", color=VERMILION, zorder=5, label=label)
