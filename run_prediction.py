"""Predict images without truth: probability maps, masks, overlays, LabelMe files, a table of measurements."""

from __future__ import annotations

import argparse
from pathlib import Path

from lib.configuration.experiment_folder import ensemble_name
from lib.networks.network_choice import NetworkChoice
from lib.runtime.command_line import add_experiments_option, run_script, script_parser
from lib.runtime.errors import UserError
from lib.runtime.ray_cluster import ClusterOptions, add_cluster_options


def _parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGES", help="files and folders")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--experiment", metavar="NAME", help="default: the configuration's name")
    add_experiments_option(which.add_argument)
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
    add_cluster_options(parser)
    return parser


def _chosen(arguments: argparse.Namespace) -> NetworkChoice:
    from lib.configuration.reading import experiment_named

    if arguments.experiments:
        ensemble_name(arguments.experiments)
    names = arguments.experiments or [arguments.experiment]
    named = [experiment_named(arguments.config, arguments.overrides, name) for name in names]
    file = None
    if arguments.engine != "keras":
        if arguments.experiments:
            raise UserError("--experiments: expected --engine keras; an ONNX file is one network")
        file = (arguments.model or named[0].folder / f"{named[0].name}.onnx").absolute()
    experiments = tuple((one.folder, one.name) for one in named)
    return NetworkChoice(arguments.engine, file, experiments, tuple(arguments.overrides))


def main() -> None:
    """Read the options, predict each image, say where the results lie and what failed."""
    arguments = _parser().parse_args()

    from lib.prediction.folder import predict_images
    from lib.prediction.found_images import find_images
    from lib.prediction.fovea import read_foveae
    from lib.prediction.on_cluster import cluster_prediction

    cluster = ClusterOptions.of(arguments)
    images = find_images(arguments.images, arguments.output)
    foveae = read_foveae(arguments.fovea, images)
    chosen = _chosen(arguments)
    network = chosen.read()
    with cluster_prediction(cluster, chosen, arguments.output, foveae) as predict_many:
        table, failures = predict_images(network, images, arguments.output, foveae, predict_many)
    print(f"{len(images) - len(failures)} images predicted, {table}")
    if failures:
        print("\n".join([f"failed ({len(failures)}):", *(f"  - {line}" for line in failures)]))
        raise SystemExit(1)


if __name__ == "__main__":
    run_script(main)
