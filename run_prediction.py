"""Predict images without truth: probability maps, masks, overlays, LabelMe files, a table of measurements."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lib.command_line import add_experiments, run_script, script_parser
from lib.user_errors import UserError

if TYPE_CHECKING:
    from lib.trained_network import TrainedNetwork


def _parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGES", help="files and folders")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--experiment", metavar="NAME", help="default: the configuration's name")
    add_experiments(which)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("predictions"),
        metavar="DIR",
        help="folder for the results (default: ./predictions)",
    )
    parser.add_argument("--engine", choices=("keras", "onnx", "openvino"), default="keras")
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FILE.onnx",
        help="for --engine onnx or openvino; default: the experiment's",
    )
    parser.add_argument(
        "--fovea",
        metavar="ROW,COL|FILE.csv",
        help="where the fovea lies, in pixels of the file: of a single image, or of each in a CSV file "
        "with the columns image,row,column; adds quadrants and ETDRS rings to the table",
    )
    return parser


def _network(arguments: argparse.Namespace) -> TrainedNetwork:
    """What the options choose: an ONNX file, an experiment's network, or the mean of several."""
    from lib.configuration import experiment_named

    names = arguments.experiments or [arguments.experiment]
    chosen = [experiment_named(arguments.config, arguments.overrides, name) for name in names]
    if arguments.engine != "keras":
        if arguments.experiments:
            raise UserError("--experiments: expected --engine keras; an ONNX file is one network")
        from lib.onnx_network import read_onnx_network

        file = arguments.model or chosen[0].folder / f"{chosen[0].name}.onnx"
        return read_onnx_network(file, arguments.overrides, arguments.engine)
    from lib.keras_backend import start_keras

    start_keras()
    from lib.ensemble import read_keras_ensemble
    from lib.experiment import Experiment
    from lib.keras_network import read_keras_network

    experiments = [Experiment(one.folder, one.name) for one in chosen]
    if arguments.experiments:
        return read_keras_ensemble(experiments, arguments.overrides)
    return read_keras_network(experiments[0], arguments.overrides)[0]


def main() -> None:
    """Read the options, predict each image, say where the results lie and what failed."""
    arguments = _parser().parse_args()

    from lib.archive import find_images, predict_images, read_fovea

    images = find_images(arguments.images, arguments.output)
    foveae = read_fovea(arguments.fovea, images)
    network = _network(arguments)
    table, failures = predict_images(network, images, arguments.output, foveae)
    print(f"{len(images) - len(failures)} images predicted, {table}")
    if failures:
        print("\n".join([f"failed ({len(failures)}):", *(f"  - {line}" for line in failures)]))
        raise SystemExit(1)


if __name__ == "__main__":
    run_script(main)
