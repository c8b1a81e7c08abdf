"""Figures of vessel networks: docs/results/vessels.json, one object each, and the table of vessels.md.

    python -m benchmarks.vessels EXPERIMENT ...

EXPERIMENT is the folder of an experiment whose test is complete. Its figures, also those of tests with
`path_test`, replace those with the same data set, split, network, configuration, pixels, angle of the field
of view and test-time augmentation. Without EXPERIMENT, only the table is made again.
"""

import argparse
import json
import re
from datetime import date
from pathlib import Path

from lib.configuration.experiment_folder import PER_IMAGE, PERFORMANCES, Experiment
from lib.configuration.reading import read_configuration
from lib.configuration.sections import SPLIT, TESTED_FOLDER
from lib.evaluation.performance_report import EPOCHS, read_performances
from lib.experiments.statistics_report import markdown_table
from lib.runtime.atomic_files import read_json, write_text
from lib.runtime.command_line import run_script
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT

FIGURES = PROJECT / "docs" / "results" / "vessels.json"
PAGE = FIGURES.with_suffix(".md")
BEGIN, END = "<!-- table of vessels.json -->\n", "<!-- end of the table -->\n"

IDENTITY = ("trained_on", "data_set", "split", "network", "configuration", "counted", "angle", "mirrored")
"""Keys that together name a figure."""

COLUMNS = {
    "trained_on": "trained on",
    "data_set": "tested on",
    "split": "split",
    "network": "network",
    "configuration": "configuration",
    "counted": "pixels",
    "angle": "angle",
    "mirrored": "mirror images",
    "auc_roc": "AUC-ROC",
    "f1": "F1",
    "seconds_an_image": "s an image",
    "training_minutes": "training, minutes",
    "date": "date",
}


def figures_of(experiment: Experiment) -> list[dict]:
    """The figures of the tests on the own data set and on others: field of view, and whole image.

    Raises:
        UserError: the experiment is not tested, or not trained on a data set of vessels.
    """
    if not experiment.performances.is_file():
        raise UserError(f"{experiment.folder}: not tested; run run_testing.py first")
    configuration = read_configuration(experiment.configuration)
    _refuse_stale_test(experiment)
    given = configuration.preparation.split_file
    if given is None:
        raise UserError(f"{experiment.folder}: [preparation] split_file is empty; expected that of vessels")
    own = read_json(experiment.split, "train again")["how"].partition(".json")[0]  # "STARE_15_5.json: ..."
    trained_on, _ = data_set_and_split(own)
    about = {
        "trained_on": trained_on,
        "network": configuration.model.architecture,
        "configuration": configuration.experiment_name.name,
        "training_minutes": round(sum(row["seconds"] for row in experiment.history()) / 60, 1) or None,
    }
    figures = figures_in(experiment.folder, own, about)
    for results in sorted(file.parent for file in experiment.folder.glob(f"on_*/{PERFORMANCES}")):
        tested = experiment.folder / (results / TESTED_FOLDER).read_text(encoding="utf-8").strip()
        how = read_json(tested / SPLIT, "prepare the data again")["how"]  # "STARE_all.json: ..."
        figures += figures_in(results, how.partition(".json")[0], about)
    return figures


def _refuse_stale_test(experiment: Experiment) -> None:
    """Refuse scores of an earlier epoch, or of some of the test images only.

    Imported weights have no epochs, and their split names no test images.
    """
    epochs = len(experiment.history())
    if not epochs:
        return
    context = read_json(experiment.performances, "test again")["context"]
    tested = len((experiment.folder / PER_IMAGE).read_text(encoding="utf-8-sig").splitlines()) - 1
    images = len(read_json(experiment.split, "train again")["parts"]["test"])
    if context[EPOCHS].split()[0] != str(epochs) or tested != images:
        raise UserError(
            f"{experiment.folder}: tested {tested} of {images} images with {context[EPOCHS].split()[0]} of "
            f"{epochs} epochs; run run_testing.py again, with full_images_to_test = all"
        )


def data_set_and_split(name: str) -> tuple[str, str]:
    """The parts of the name of a split file, e.g. STARE_15_5."""
    found = re.fullmatch(r"(DRIVE|STARE|CHASE_DB1)_(\w+)", name)
    if found is None:
        raise UserError(f"split {name}: expected a split of DRIVE, STARE or CHASE_DB1")
    return found[1], found[2]


def figures_in(results: Path, split: str, about: dict) -> list[dict]:
    """The figures in a folder with results; `about` is the same for all tests of the experiment."""
    file = results / PERFORMANCES
    evaluation = read_performances(file)
    context = read_json(file, "test again")["context"]
    if "test-time augmentation" not in context:
        raise UserError(f"{file}: of an earlier version, without its test-time augmentation; test again")
    data_set, split = data_set_and_split(split)
    tested = {
        "data_set": data_set,
        "split": split,
        "mirrored": context["test-time augmentation"] != "none",
        # Empty for the angle of the training, to which the images are not adapted.
        "angle": context.get("field of view", "").split(",")[0],
        "seconds_an_image": float(context["prediction"].split()[0]),
        "date": date.fromtimestamp(file.stat().st_mtime).isoformat(),
    }
    counted = {"field_of_view": evaluation.in_field_of_view, "whole_image": evaluation.whole_image}
    return [
        {**about, **tested, "counted": pixels, "auc_roc": round(scores.auc_roc, 5), "f1": round(scores.f1, 4)}
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
    run_script(main)
