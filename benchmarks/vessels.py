"""Figures of vessel networks: docs/results/vessels.json, one object each, and the table of vessels.md.

    python -m benchmarks.vessels EXPERIMENT ...

EXPERIMENT is the folder of an experiment whose test is complete. Its figures replace those with the same
data set, split, network, configuration, pixels and test-time augmentation. Without EXPERIMENT, only the table
is made again.
"""

import argparse
import json
import re
from datetime import date
from pathlib import Path

from lib.configuration.experiment_folder import Experiment
from lib.configuration.reading import read_configuration
from lib.evaluation.performance_report import read_performances
from lib.experiments.statistics_report import markdown_table
from lib.runtime.atomic_files import read_json, write_text
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT

FIGURES = PROJECT / "docs" / "results" / "vessels.json"
PAGE = FIGURES.with_suffix(".md")
BEGIN, END = "<!-- table of vessels.json -->\n", "<!-- end of the table -->\n"

IDENTITY = ("trained_on", "data_set", "split", "network", "configuration", "counted", "mirrored")
"""Keys that together name a figure."""

COLUMNS = {
    "trained_on": "trained on",
    "data_set": "tested on",
    "split": "split",
    "network": "network",
    "configuration": "configuration",
    "counted": "pixels",
    "mirrored": "mirror images",
    "auc_roc": "AUC-ROC",
    "f1": "F1",
    "seconds_an_image": "s an image",
    "training_minutes": "training, minutes",
    "date": "date",
}


def figures_of(experiment: Experiment) -> list[dict]:
    """The figures of a test: pixels of the field of view, and of the whole image.

    Raises:
        UserError: the experiment is not tested, or not on a data set of vessels.
    """
    if not experiment.performances.is_file():
        raise UserError(f"{experiment.folder}: not tested; run run_testing.py first")
    configuration = read_configuration(experiment.configuration)
    given = configuration.preparation.split_file
    if given is None:
        raise UserError(f"{experiment.folder}: [preparation] split_file is empty; expected that of vessels")
    data_set, split = re.fullmatch(r"(DRIVE|STARE|CHASE_DB1)_(\w+)", given.stem).groups()
    context = read_json(experiment.performances, "test again")["context"]
    evaluation = read_performances(experiment.performances)
    about = {
        "trained_on": data_set,
        "data_set": data_set,
        "split": split,
        "network": configuration.model.architecture,
        "configuration": configuration.experiment_name.name,
        "mirrored": configuration.testing_settings.tta != "none",
        "seconds_an_image": float(context["prediction"].split()[0]),
        "training_minutes": round(sum(row["seconds"] for row in experiment.history()) / 60, 1) or None,
        "date": date.fromtimestamp(experiment.performances.stat().st_mtime).isoformat(),
    }
    counted = {"field_of_view": evaluation.in_field_of_view, "whole_image": evaluation.whole_image}
    return [
        {**about, "counted": pixels, "auc_roc": round(scores.auc_roc, 5), "f1": round(scores.f1, 4)}
        for pixels, scores in counted.items()
    ]


def with_new(figures: list[dict], new: list[dict]) -> list[dict]:
    """All figures in the order of `IDENTITY`; a new one replaces that of the same identity."""
    by_identity = {tuple(figure[key] for key in IDENTITY): figure for figure in (*figures, *new)}
    return [by_identity[identity] for identity in sorted(by_identity)]


def table(figures: list[dict]) -> str:
    """The figures as a Markdown table."""
    rows = [["" if figure[key] is None else str(figure[key]) for key in COLUMNS] for figure in figures]
    return markdown_table(list(COLUMNS.values()), rows)


def main() -> None:
    """Add the figures of the experiments, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiments", nargs="*", type=Path, metavar="EXPERIMENT")
    folders = parser.parse_args().experiments
    new = [figure for folder in folders for figure in figures_of(Experiment(folder, folder.resolve().name))]
    figures = with_new(json.loads(FIGURES.read_text(encoding="utf-8")), new)
    write_text(FIGURES, json.dumps(figures, indent=1) + "\n")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    write_text(PAGE, f"{before}{BEGIN}\n{table(figures)}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
