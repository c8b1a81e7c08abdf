"""Tables of a plan (results.md, .csv, .json) and the figures that compare its variants."""

import csv
import io
import json
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lib.configuration.sections import FIGURE_FORMATS
from lib.evaluation.patient_statistics import SCORES
from lib.evaluation.performance_report import read_performances
from lib.evaluation.pixel_scores import format_score
from lib.evaluation.scoring import average
from lib.experiments.comparison_figures import (
    bland_altman,
    box_plot,
    calibration,
    precision_recall_curves,
    results,
    roc_curves,
)
from lib.experiments.plan import Plan, Run
from lib.experiments.pooled_folds import Variant, read_tested_images
from lib.experiments.statistics_report import (
    COMPARED_BY,
    compare,
    estimate_rows,
    markdown_table,
    statistics_text,
)
from lib.figures.mosaics import labelled_rows
from lib.runtime.atomic_files import write_text

FIGURES = (results, roc_curves, precision_recall_curves, box_plot, bland_altman, calibration)
"""Functions that draw the figures of their names."""

SIDE_BY_SIDE, SHOWN_SIDE_BY_SIDE = "comparison.png", 6
"""Name of the picture with predictions of all variants, and the number of its test images."""


def write_table(plan: Plan, variants: Sequence[Variant] = ()) -> Path:
    """Write results.md, .csv and .json of the runs that are finished so far.

    With `variants` the tables also hold the statistics over patients, and results_estimates.csv and
    results_paired_tests.csv are written. Earlier files and figures that do not show these runs are removed.
    """
    rows = [row for run in plan.runs if (row := _row(plan, run))]
    columns = ["run", "test images", "parameters", "training minutes", *SCORES, "accuracy, whole image"]
    columns += [c for c in ("cal", "cl_dice", "published AUC") if any(c in row for row in rows)]
    table = [[format_score(row.get(column)) for column in columns] for row in rows]
    if len({row["variant"] for row in rows}) < len(rows):  # folds and seeds: their means
        for variant in dict.fromkeys(row["variant"] for row in rows):
            chosen = [row for row in rows if row["variant"] == variant]
            means = [_average(chosen, column) for column in columns[3:]]
            table.append([f"{variant}: mean ± sd of {len(chosen)}", "", "", *means])
    estimates = [row for variant in variants for row in estimate_rows(variant)]
    tests = [test for score in COMPARED_BY for test in compare(score, variants)]
    lines = [f"# {plan.name}", "", f"{len(rows)} of {len(plan.runs)} runs are finished."]
    if refused := sum(run.refused for run in plan.runs):
        lines += [f"{refused} failed in the last call; an earlier result of theirs is not shown."]
    lines += [f"Published: {plan.reference_source}"] if plan.reference else []
    lines += ["", markdown_table(columns, table)]
    lines += statistics_text(variants, tests) if variants else []
    folder = plan.folder
    content = {"runs": rows, "estimates": estimates, "paired_tests": [asdict(t) for t in tests]}
    write_text(folder / "results.md", "\n".join(lines) + "\n")
    write_text(
        folder / "results.json", json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    )
    _write_csv(folder / "results.csv", rows, columns)
    for name in ("estimates", "paired_tests"):
        file = folder / f"results_{name}.csv"
        if content[name]:
            _write_csv(file, content[name], list(content[name][0]))
        else:
            file.unlink(missing_ok=True)
    if not variants:
        _remove_figures(folder)
    return folder / "results.md"


def _write_csv(file: Path, rows: Sequence[Mapping], columns: Sequence[str]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    # Excel reads the names as UTF-8 only with a byte order mark.
    write_text(file, f"\ufeff{text.getvalue()}")


def write_comparison(plan: Plan, variants: Sequence[Variant]) -> None:
    """Draw scores as bars, curves, Dice of each image, Bland-Altman plots, calibration and predictions."""
    _remove_figures(plan.folder)  # also those in a format that is not asked for
    if not variants:
        return
    formats = plan.runs[0].configuration.testing_settings.figure_formats
    for draw in FIGURES:
        draw(plan.folder / f"{draw.__name__}.png", variants, formats)
    _side_by_side(plan, variants)


def _remove_figures(folder: Path) -> None:
    names = [f"{draw.__name__}.{ending}" for draw in FIGURES for ending in FIGURE_FORMATS]
    for name in (*names, SIDE_BY_SIDE):
        (folder / name).unlink(missing_ok=True)


def _side_by_side(plan: Plan, variants: Sequence[Variant]) -> None:
    """The first images, their truths, and the probabilities of each variant with its first seed.

    Where several networks predicted an image, their mean is shown; that of an ensemble of all seeds is over
    all seeds.
    """
    common = set.intersection(*(set(v.images) for v in variants))
    names = sorted(common)[:SHOWN_SIDE_BY_SIDE]
    if not names:
        return
    pictures: dict[str, dict[str, np.ndarray]] = {"Original": {}, "Ground truth": {}}
    for variant in variants:
        runs = [run for run in variant.runs if variant.ensemble_of_seeds or run.seed == variant.runs[0].seed]
        probabilities = defaultdict(list)
        for _, case in read_tested_images(runs):
            if case.name in names:
                pictures["Original"][case.name] = case.original
                pictures["Ground truth"][case.name] = case.truth
                probabilities[case.name].append(case.probability)
        pictures[variant.name] = {name: np.mean(found, axis=0) for name, found in probabilities.items()}
    rows = {title: [images[name] for name in names] for title, images in pictures.items()}
    labelled_rows(plan.folder / SIDE_BY_SIDE, rows, names, side=256)


def _row(plan: Plan, run: Run) -> dict[str, Any] | None:
    """The columns of a finished run; None if it is not finished."""
    if not run.is_tested:
        return None
    tested = read_performances(run.results.performances)
    seconds = sum(epoch["seconds"] for epoch in run.experiment.history())
    images = [image.name for image in tested.per_image]
    row: dict[str, Any] = {
        "run": run.name,
        "variant": run.variant,
        "test images": ", ".join(images) if len(images) <= 3 else f"{len(images)} images",
        "parameters": run.experiment.training_record()["parameters"],
        "training minutes": round(seconds / 60, 2),
    }
    row |= {score: getattr(tested.in_field_of_view, score) for score in SCORES}
    row["accuracy, whole image"] = tested.whole_image.accuracy
    for name in ("cal", "cl_dice"):
        mean = average(tested.connectivity, name).mean
        row |= {} if mean is None else {name: mean}
    published = [plan.reference[name] for name in images if name in plan.reference]
    return row | ({"published AUC": statistics.mean(published)} if published else {})


def _average(rows: Sequence[Mapping], column: str) -> str:
    values = [row[column] for row in rows if row.get(column) is not None]
    if len(values) < 2:
        return "n/a"
    counted = f" ({len(values)} of {len(rows)})" if len(values) < len(rows) else ""
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}{counted}"
