"""Score a trained network on the test images: tables, ROC and precision-recall figures, pictures."""

from __future__ import annotations

import argparse
import hashlib
import re
from pathlib import Path

from lib.configuration.experiment_folder import Experiment, ensemble_name, experiment_named, refuse_untrained
from lib.configuration.reading import Configuration, read_configuration
from lib.runtime.command_line import add_experiments_option, run_script, script_parser
from lib.runtime.errors import UserError
from lib.runtime.keras_startup import start_keras
from lib.runtime.log_file import to_log_file


def main() -> None:
    """Predict and score the test images, print the scores and where the results are."""
    arguments = _parser().parse_args()
    names, overrides = arguments.experiments, arguments.overrides
    if names:
        overrides = [*overrides, f"experiment name.name={ensemble_name(names)}"]
    members = [experiment_named(arguments.config, overrides, member) for member in names]
    if arguments.model:
        configuration = configuration_of_export(arguments.config, overrides, arguments.model)
    else:
        configuration = read_configuration(arguments.config, overrides)
        for experiment in members or [Experiment.of(configuration)]:
            refuse_untrained(experiment)
    folder, name = configuration.results_folder, configuration.experiment_name.name
    if configuration.testing_settings.nohup:
        to_log_file(folder / f"{name}_testing.nohup")
    start_keras()
    from lib.evaluation import test_run  # imports Keras

    if arguments.model:
        test_run.test_exported(configuration, arguments.model, overrides)
    else:
        test_run.test(configuration, members)
    print((folder / "performances.txt").read_text(encoding="utf-8"))
    ending = configuration.testing_settings.figure_formats[0]
    print(f"written to {folder}; look at ROC.{ending} and Precision_recall.{ending} there")


def _parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__)
    which = parser.add_mutually_exclusive_group()
    add_experiments_option(which.add_argument)
    which.add_argument(
        "--model",
        type=Path,
        metavar="FILE.onnx",
        help="score an exported network, e.g. pretrained/cnp_ffa/cnp_ffa.onnx, on the test images of the "
        "configuration, with its own settings and threshold",
    )
    return parser


def configuration_of_export(config: Path, overrides: list[str], file: Path) -> Configuration:
    """The configuration whose results folder belongs to an ONNX file and to the tested data set.

    Its name has digits of the SHA-256 of the file, so that no other network has the same folder.
    """
    if not file.is_file():
        raise UserError(f"--model {file}: no such file; export one: python run_export.py NAME")
    with file.open("rb") as stream:
        digits = hashlib.file_digest(stream, "sha256").hexdigest()[:8]
    # The scale of the training, which the angle needs, is in the ONNX file.
    angle = "testing settings.test_field_of_view_degrees"
    own = [override for override in overrides if not override.strip().startswith(angle)]
    paths = read_configuration(config, own).data_paths
    name = f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', file.stem)}_{digits}"
    tested = f"data paths.path_test={paths.path_test or paths.path_local}"
    return read_configuration(config, [*own, f"experiment name.name={name}", tested])


if __name__ == "__main__":
    run_script(main)
