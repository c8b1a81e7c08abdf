"""Export a trained network, or the mean of several, as one ONNX file, which predicts without TensorFlow."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from lib.configuration.experiment_folder import (
    Experiment,
    ensemble_name,
    experiment_named,
    refuse_untrained,
    settings_not_used,
    trained_experiments,
)
from lib.runtime.command_line import add_experiments_option, run_script, script_parser
from lib.runtime.errors import UserError
from lib.runtime.keras_startup import start_keras
from lib.runtime.paths import PROJECT


def _parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("name", nargs="?", metavar="NAME", help="name of the experiment")
    add_experiments_option(which.add_argument)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE.onnx",
        help="file to write; its name becomes the name of the network (default: NAME/NAME.onnx in the folder "
        "of the experiments, with the names of an ensemble joined by +)",
    )
    parser.add_argument(
        "--float16_weights",
        action="store_true",
        help="store the weights as float16: half the size; the computation stays in float32",
    )
    return parser


def _chosen(arguments: argparse.Namespace) -> list[Experiment]:
    if arguments.experiments:
        ensemble_name(arguments.experiments)
    names = arguments.experiments or [arguments.name]
    chosen = [experiment_named(arguments.config, arguments.overrides, name) for name in names]
    if names == [None]:
        known = trained_experiments(chosen[0].folder.parent)
        raise UserError(f"expected the NAME of an experiment; {known}")
    for experiment in chosen:
        refuse_untrained(experiment)
        if warning := settings_not_used(experiment, arguments.config, arguments.overrides):
            print(warning)
    if arguments.output and arguments.output.suffix != ".onnx":
        raise UserError(f"--output {arguments.output}: expected a file name that ends in .onnx")
    if arguments.output and arguments.output.exists():
        raise UserError(f"--output {arguments.output}: exists already; name a new file, or delete this one")
    return chosen


def main() -> None:
    """Write the ONNX file, print where it is and how to use it."""
    arguments = _parser().parse_args()
    experiments = _chosen(arguments)
    output = arguments.output and arguments.output.absolute()
    start_keras()
    from lib.networks.onnx_export import export  # imports Keras

    file = export(experiments, arguments.overrides, output, float16_weights=arguments.float16_weights)
    shown = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    print(f"written to {shown}, {file.stat().st_size / 2**20:.1f} MiB")
    script = "run_prediction.py" if Path.cwd() == PROJECT else PROJECT / "run_prediction.py"
    print(f"next: {shlex.join(['python', str(script), 'IMAGES', '--model', str(shown)])}")


if __name__ == "__main__":
    run_script(main)
