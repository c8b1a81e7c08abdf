"""Predict images without truth: probability maps, masks, overlays, LabelMe files, a table of measurements."""

import argparse
from pathlib import Path

from lib.command_line import run_script, script_parser


def _parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGES", help="files and folders")
    parser.add_argument("--experiment", metavar="NAME", help="default: the configuration's name")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("predictions"),
        metavar="DIR",
        help="folder for the results (default: ./predictions)",
    )
    parser.add_argument("--engine", choices=("keras", "onnx"), default="keras")
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FILE.onnx",
        help="for --engine onnx; default: the experiment's",
    )
    parser.add_argument(
        "--fovea",
        metavar="ROW,COL|FILE.csv",
        help="where the fovea lies, in pixels of the file: of a single image, or of each in a CSV file "
        "with the columns image,row,column; adds quadrants and ETDRS rings to the table",
    )
    return parser


def main() -> None:
    """Read the options, predict each image, say where the results lie and what failed."""
    arguments = _parser().parse_args()

    from lib.archive import find_images, predict_images, read_fovea
    from lib.configuration import read_configuration

    images = find_images(arguments.images, arguments.output)
    foveae = read_fovea(arguments.fovea, images)
    chosen = [f"experiment name.name={arguments.experiment}"] if arguments.experiment else []
    named = read_configuration(arguments.config, [*arguments.overrides, *chosen]).experiment_name
    name, folder = named.name, named.folder
    if arguments.engine == "onnx":
        from lib.onnx_network import read_onnx_network

        network = read_onnx_network(arguments.model or folder / f"{name}.onnx", arguments.overrides)
    else:
        from lib.keras_backend import start_keras

        start_keras()
        from lib.experiment import Experiment
        from lib.keras_network import read_keras_network

        network, _ = read_keras_network(Experiment(folder, name), arguments.overrides)
    table, failures = predict_images(network, images, arguments.output, foveae)
    print(f"{len(images) - len(failures)} images predicted, {table}")
    if failures:
        print("\n".join([f"failed ({len(failures)}):", *(f"  - {line}" for line in failures)]))
        raise SystemExit(1)


if __name__ == "__main__":
    run_script(main)
