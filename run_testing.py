"""Score a trained network on the test images: tables, ROC and precision-recall figures, pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from lib.configuration.experiment_folder import Experiment, ensemble_name, experiment_named, refuse_untrained
from lib.configuration.reading import Configuration, read_configuration
from lib.runtime.command_line import add_experiments_option, run_script, script_parser
from lib.runtime.keras_startup import start_keras
from lib.runtime.log_file import to_log_file


def main() -> None:
    """Predict and score the test images, print the scores and where the results are."""
    arguments = _parser().parse_args()
    if arguments.model:
        _test_exported(arguments)
        return
    names, overrides = arguments.experiments, arguments.overrides
    if names:
        overrides = [*overrides, f"experiment name.name={ensemble_name(names)}"]
    configuration = read_configuration(arguments.config, overrides)
    members = [experiment_named(arguments.config, overrides, member) for member in names]
    for experiment in members or [Experiment.of(configuration)]:
        refuse_untrained(experiment)
    _to_log_file_if_set(configuration)
    start_keras()
    from lib.evaluation.test_run import test  # imports Keras

    test(configuration, members)
    _print_results(configuration)


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


def _test_exported(arguments: argparse.Namespace) -> None:
    start_keras()
    from lib.evaluation.test_run import configuration_of_export, test_exported  # imports Keras
    from lib.networks.from_onnx import read_onnx_network
    from lib.networks.onnx_metadata import overrides_of_network

    file = arguments.model
    network = read_onnx_network(file, overrides_of_network(arguments.overrides))
    configuration = configuration_of_export(arguments.config, arguments.overrides, file)
    _to_log_file_if_set(configuration)
    test_exported(configuration, file, network)
    _print_results(configuration)


def _to_log_file_if_set(configuration: Configuration) -> None:
    if configuration.testing_settings.nohup:
        name = configuration.experiment_name.name
        to_log_file(configuration.results_folder / f"{name}_testing.nohup")


def _print_results(configuration: Configuration) -> None:
    folder = configuration.results_folder
    print((folder / "performances.txt").read_text(encoding="utf-8"))
    print(f"written to {folder}; look at ROC.png and Precision_recall.png there")


if __name__ == "__main__":
    run_script(main)
