"""Charts: learning curves and bars."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator

from lib.figures.style import (
    BLUE,
    FAINT,
    INK,
    VERMILION,
    draw_legend,
    legend_inside,
    legend_text,
    mark_operating_point,
    new_figure,
    save_figure,
    style_axes,
    title_and_subtitle,
    write_in_middle,
)


def learning_curves(file: Path, history: Sequence[Mapping[str, float | None]], best_by: str = "auc") -> None:
    """Loss, accuracy and AUC over the epochs, with a mark at the best epoch.

    Args:
        file: the PNG.
        history: one row for each epoch, from the first, with any of `loss`, `accuracy`, `auc`, `val_loss`,
            `val_accuracy`, `val_auc`; a value may be missing, None or not finite.
        best_by: "auc" (greatest `val_auc`) or "loss" (least `val_loss`).
    """
    figure = new_figure(12, 3.7)
    best = _best_epoch(history, best_by)
    for axes, name, title in zip(
        figure.subplots(1, 3), ("loss", "accuracy", "auc"), ("Loss", "Accuracy", "AUC-ROC"), strict=True
    ):
        style_axes(axes)
        axes.set_title(title, loc="left", color=INK, fontweight="bold")
        axes.set_xlabel("Epoch")
        axes.set_xlim(0.5, max(len(history), 1) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
        if best is not None:
            axes.axvline(best, color=FAINT, linewidth=1, linestyle="--")
        for key, label, colour in ((name, "training", BLUE), (f"val_{name}", "validation", VERMILION)):
            epochs, values = _series(history, key)
            if values:
                marker = "o" if len(values) <= 30 else None
                axes.plot(
                    epochs, values, color=colour, linewidth=1.8, marker=marker, markersize=3, label=label
                )
                if best in epochs and key.startswith("val_"):
                    value = values[epochs.index(best)]
                    mark_operating_point(axes, best, value, f"best epoch {best:g}: {value:.4f}")
        if not legend_inside(axes):
            write_in_middle(axes, "no values yet")
    figure.subplots_adjust(left=0.045, right=0.985, bottom=0.15, top=0.9, wspace=0.16)
    save_figure(figure, file, dots_per_inch=100)


def _best_epoch(history: Sequence[Mapping[str, float | None]], best_by: str) -> float | None:
    epochs, values = _series(history, f"val_{best_by}")
    if not values:
        return None
    return epochs[int(np.argmax(values) if best_by == "auc" else np.argmin(values))]


def _series(history: Sequence[Mapping[str, float | None]], key: str) -> tuple[list[float], list[float]]:
    """The epochs with a finite value of `key`, numbered from 1, and the values."""
    values = [(epoch, row.get(key)) for epoch, row in enumerate(history, 1)]
    defined = [(epoch, v) for epoch, v in values if v is not None and np.isfinite(v)]
    return [float(epoch) for epoch, _ in defined], [v for _, v in defined]


def bar_chart(
    file: Path,
    scores: Sequence[str],
    groups: Mapping[str, np.ndarray],
    colours: Sequence[str],
    *,
    hatched: Sequence[bool],
    subtitle: str,
    formats: Sequence[str] = ("png",),
) -> None:
    """Scores in [0, 1] of each network side by side (Figure 9 of the LDPC-Net paper), with intervals.

    Args:
        file: the PNG; other formats have other endings.
        scores: titles of the scores.
        groups: for each network (scores, 3) float64: value and both ends of its interval; NaN where not
            defined: then "n/a" stands in place of the bar.
        colours: of the networks.
        hatched: whether the bars of a network are hatched, because its colour is that of another one.
        subtitle: below the title.
        formats: as `save_figure`.
    """
    figure = new_figure(1.2 + len(scores) * max(1.4, 0.32 * len(groups)), 5.2)
    axes = figure.add_subplot()
    style_axes(axes)
    width = 0.84 / len(groups)
    styles = zip(groups.items(), colours, hatched, strict=True)
    for number, ((name, rows), colour, is_hatched) in enumerate(styles):
        values, low, high = rows.T
        at = np.arange(len(scores)) + (number - (len(groups) - 1) / 2) * width
        axes.bar(
            at, values, width * 0.9, label=legend_text(name), color=colour, hatch="////" if is_hatched else ""
        )
        axes.vlines(at, low, high, color=INK, linewidth=1.2)
        for x, value, top in zip(at, np.nan_to_num(values), np.fmax(values, high), strict=True):
            label = "n/a" if np.isnan(top) else f"{value:.3f}"
            y = 0.015 + (0 if np.isnan(top) else top)
            axes.text(x, y, label, ha="center", va="bottom", fontsize=7.5, rotation=90, color=INK)
    axes.set_xticks(range(len(scores)), scores)
    axes.set(ylim=(0, 1.12), yticks=np.linspace(0, 1, 6), ylabel="Value", xlabel="Score")
    title_and_subtitle(axes, "Scores of the networks", subtitle)
    draw_legend(axes, 9, loc="upper left", bbox_to_anchor=(0, -0.14), ncols=3, frameon=False)
    figure.set_layout_engine("tight")
    save_figure(figure, file, formats=formats)
