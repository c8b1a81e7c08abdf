"""What many runs came to: tables, statistics over patients, and pictures of all variants together."""

import csv
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from lib.comparison_figures import (
    bland_altman,
    box_plot,
    calibration,
    precision_recall_curves,
    roc_curves,
)
from lib.configuration.experiment_folder import Experiment
from lib.configuration.reading import read_configuration
from lib.experiments import Plan, Run
from lib.figures.charts import bar_chart
from lib.figures.mosaics import labelled_rows
from lib.intervals import SCORES
from lib.out_of_fold import Variant, read_cases, results_of
from lib.performance_report import ROWS
from lib.runtime.atomic_files import write_text
from lib.statistics_report import (
    COMPARED_BY,
    compare,
    defined,
    estimate_rows,
    markdown_table,
    statistics_text,
)

SHOWN_SIDE_BY_SIDE = 6
"""Test images in comparison.png."""


def write_table(plan: Plan, variants: Sequence[Variant] = ()) -> Path:
    """Write results.md, .csv and .json of the runs that are finished so far.

    With `variants` there are statistics over patients too, in results_estimates.csv and
    results_paired_tests.csv as well.
    """
    rows = [row for run in plan.runs if (row := _row(plan, run))]
    columns = [
        "run",
        "test images",
        "parameters",
        "training minutes",
        *SCORES,
        "accuracy, whole image",
    ]
    columns += [c for c in ("cal", "cl_dice", "published AUC") if any(c in row for row in rows)]
    table = [[_shown(row.get(column)) for column in columns] for row in rows]
    if len({row["variant"] for row in rows}) < len(rows):  # folds and seeds: their means
        for variant in dict.fromkeys(row["variant"] for row in rows):
            chosen = [row for row in rows if row["variant"] == variant]
            means = [_average(chosen, column) for column in columns[3:]]
            table.append([f"{variant}: mean ± sd of {len(chosen)}", "", "", *means])
    estimates = [row for variant in variants for row in estimate_rows(variant)]
    tests = [test for score in COMPARED_BY for test in compare(score, variants)]
    lines = [f"# {plan.name}", "", f"{len(rows)} of {len(plan.runs)} runs are finished."]
    lines += [f"Published: {plan.reference_source}"] if plan.reference else []
    lines += ["", *markdown_table(columns, table)]
    lines += statistics_text(variants, tests) if variants else []
    folder = _folder(plan)
    content = {"runs": rows, "estimates": estimates, "paired_tests": [asdict(t) for t in tests]}
    write_text(folder / "results.md", "\n".join(lines) + "\n")
    write_text(
        folder / "results.json",
        json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
    )
    _write_csv(folder / "results.csv", rows, columns)
    for name in ("estimates", "paired_tests"):
        if content[name]:
            _write_csv(folder / f"results_{name}.csv", content[name], list(content[name][0]))
    return folder / "results.md"


def _write_csv(file: Path, rows: Sequence[Mapping], columns: Sequence[str]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(file, text.getvalue())


def write_comparison(plan: Plan, variants: Sequence[Variant]) -> None:
    """Draw the scores as bars, all variants' curves, agreement and calibration, and what they predict."""
    if not variants:
        return
    folder = _folder(plan)
    titles = [ROWS[score].split(" (")[0] for score in SCORES]
    groups = {
        v.name: dict(zip(titles, map(defined, v.network.estimate.values), strict=True))
        for v in variants
    }
    bar_chart(folder / "results.png", groups)
    for name, draw in {
        "roc_curves": roc_curves,
        "precision_recall_curves": precision_recall_curves,
        "box_plot": box_plot,
        "calibration": calibration,
    }.items():
        draw(folder / f"{name}.png", variants)
    structure = read_configuration(plan.base, plan.runs[0].overrides).data_attributes.structure
    bland_altman(folder / "bland_altman.png", variants, structure)
    _side_by_side(plan, variants)


def _side_by_side(plan: Plan, variants: Sequence[Variant]) -> None:
    """The first images, their truths, and what each variant makes of them under its first seed."""
    common = set.intersection(*(set(v.images) for v in variants))
    names = sorted(common)[:SHOWN_SIDE_BY_SIDE]
    if not names:
        return
    pictures = {"Original": {}, "Ground truth": {}}
    for variant in variants:
        runs = [run for run in plan.runs if run.variant == variant.name]
        pictures[variant.name] = {}
        for _, case in read_cases(plan, [run for run in runs if run.seed == runs[0].seed]):
            if case.name in names:
                pictures["Original"][case.name] = case.original
                pictures["Ground truth"][case.name] = case.truth
                pictures[variant.name][case.name] = case.probability
    rows = {title: [images[name] for name in names] for title, images in pictures.items()}
    labelled_rows(_folder(plan) / "comparison.png", rows, names, side=256)


def _folder(plan: Plan) -> Path:
    configuration = read_configuration(plan.base, plan.runs[0].overrides)
    return configuration.experiment_name.path_experiments


def _row(plan: Plan, run: Run) -> dict | None:
    experiment = Experiment.of(read_configuration(plan.base, run.overrides))
    file = results_of(plan, run).folder / "performances.json"
    if not file.is_file():
        return None
    measured = json.loads(file.read_text(encoding="utf-8"))
    about = json.loads(experiment.file("_versions.json").read_text(encoding="utf-8"))
    with (experiment.folder / "history.csv").open(encoding="utf-8", newline="") as stream:
        seconds = sum(float(epoch["seconds"]) for epoch in csv.DictReader(stream))
    images = [image["name"] for image in measured["per_image"]]
    row = {
        "run": run.name,
        "variant": run.variant,
        "test images": ", ".join(images) if len(images) <= 3 else f"{len(images)} images",
        "parameters": about["parameters"],
        "training minutes": round(seconds / 60, 2),
    }
    row |= {rate: measured["network_in_field_of_view"][rate] for rate in SCORES}
    row["accuracy, whole image"] = measured["network_on_whole_image"]["accuracy"]
    for name in ("cal", "cl_dice"):
        values = [one[name] for one in measured["connectivity"] if one[name] is not None]
        row |= {name: statistics.mean(values)} if values else {}
    published = [plan.reference[name] for name in images if name in plan.reference]
    return row | ({"published AUC": statistics.mean(published)} if published else {})


def _average(rows: Sequence[Mapping], column: str) -> str:
    values = [row[column] for row in rows if row.get(column) is not None]
    if len(values) < 2:
        return "n/a"
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"


def _shown(value: float | str | None) -> str:
    if value is None:
        return "n/a"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
