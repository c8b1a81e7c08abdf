"""What many runs came to: a table, a bar chart, and their predictions side by side."""

import csv
import io
import json
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from lib.configuration import read_configuration
from lib.evaluation import PredictedImage
from lib.experiment import Experiment
from lib.experiments import Plan, Run
from lib.figures import bar_chart, labelled_rows
from lib.files import write_text
from lib.predictions import read_predictions

RATES = ("auc_roc", "auc_pr", "f1", "accuracy", "sensitivity", "specificity")
SHOWN_SIDE_BY_SIDE = 6
"""Test images in comparison.png."""


def write_table(plan: Plan) -> Path:
    """Write results.md, results.csv and results.json of the runs that are finished so far."""
    rows = [row for run in plan.runs if (row := _row(plan, run))]
    columns = [
        "run",
        "test images",
        "parameters",
        "training minutes",
        *RATES,
        "accuracy, whole image",
    ]
    columns += [c for c in ("cal", "cl_dice", "published AUC") if any(c in row for row in rows)]
    table = [[_shown(row.get(column)) for column in columns] for row in rows]
    if len({row["variant"] for row in rows}) < len(rows):  # folds: their means
        for variant in dict.fromkeys(row["variant"] for row in rows):
            chosen = [row for row in rows if row["variant"] == variant]
            means = [_average(chosen, column) for column in columns[3:]]
            table.append([f"{variant}: mean ± sd of {len(chosen)}", "", "", *means])
    lines = [f"# {plan.name}", "", f"{len(rows)} of {len(plan.runs)} runs are finished."]
    lines += [f"Published: {plan.reference_source}"] if plan.reference else []
    lines += ["", _markdown(columns), _markdown(["---"] * len(columns)), *map(_markdown, table)]
    folder = _folder(plan)
    write_text(folder / "results.md", "\n".join(lines) + "\n")
    write_text(folder / "results.json", json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / "results.csv", text.getvalue())
    return folder / "results.md"


def write_comparison(plan: Plan) -> None:
    """Write results.png, the scores as bars, and comparison.png, what each variant predicts."""
    rows = [row for run in plan.runs if (row := _row(plan, run))]
    if not rows:
        return
    by_variant = defaultdict(list)
    for row in rows:
        by_variant[row["variant"]].append(row)
    groups = {
        variant: {rate: _mean(chosen, rate) for rate in RATES}
        for variant, chosen in by_variant.items()
    }
    bar_chart(_folder(plan) / "results.png", groups)
    cases = {variant: _cases(plan, variant) for variant in by_variant}
    common = set.intersection(*({c.name for c in chosen} for chosen in cases.values()))
    if not common:
        return
    names = sorted(common)[:SHOWN_SIDE_BY_SIDE]
    first, *_ = ({c.name: c for c in chosen} for chosen in cases.values())
    pictures = {
        "Original": [first[name].original for name in names],
        "Ground truth": [first[name].truth for name in names],
    }
    for variant, chosen in cases.items():
        probability = {c.name: c.probability for c in chosen}
        pictures[variant] = [probability[name] for name in names]
    labelled_rows(_folder(plan) / "comparison.png", pictures, names)


def _cases(plan: Plan, variant: str) -> list[PredictedImage]:
    """All test images of a variant, over its folds."""
    files = [_results(plan, run).predictions for run in plan.runs if run.variant == variant]
    return [case for file in files if file.is_file() for case in read_predictions(file)]


def _results(plan: Plan, run: Run) -> Experiment:
    """Where the run was tested: its folder, or one within it for another set's images."""
    configuration = read_configuration(plan.base, run.overrides)
    return Experiment(configuration.results_folder, configuration.experiment_name.name)


def _folder(plan: Plan) -> Path:
    configuration = read_configuration(plan.base, plan.runs[0].overrides)
    return configuration.experiment_name.path_experiments


def _row(plan: Plan, run: Run) -> dict | None:
    experiment = Experiment.of(read_configuration(plan.base, run.overrides))
    file = _results(plan, run).folder / "performances.json"
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
    row |= {rate: measured["network_in_field_of_view"][rate] for rate in RATES}
    row["accuracy, whole image"] = measured["network_on_whole_image"]["accuracy"]
    for name in ("cal", "cl_dice"):
        values = [one[name] for one in measured["connectivity"] if one[name] is not None]
        row |= {name: statistics.mean(values)} if values else {}
    published = [plan.reference[name] for name in images if name in plan.reference]
    return row | ({"published AUC": statistics.mean(published)} if published else {})


def _mean(rows: Sequence[Mapping], column: str) -> float | None:
    values = [row[column] for row in rows if row.get(column) is not None]
    return statistics.mean(values) if values else None


def _average(rows: Sequence[Mapping], column: str) -> str:
    values = [row[column] for row in rows if row.get(column) is not None]
    if len(values) < 2:
        return "n/a"
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"


def _shown(value: float | str | None) -> str:
    if value is None:
        return "n/a"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _markdown(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
