"""Predict images without truth: probability maps, masks, overlays, LabelMe files, a table of measurements."""

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
)
from lib.networks.network_choice import (
    SHIPPED_NETWORK,
    NetworkChoice,
    described_shipped_network,
    shipped_network,
)
from lib.runtime.command_line import add_experiments_option, next_command, run_script, script_parser
from lib.runtime.errors import UserError
from lib.runtime.paths import DEFAULT_CONFIGURATION
from lib.runtime.ray_cluster import ClusterOptions, add_cluster_options


def _parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, default="configuration.txt beside the scripts, if an experiment is named")
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGES", help="files and folders")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--experiment",
        metavar="NAME",
        help="name of the experiment (default: that of --config; without --config, --model and "
        "--engine keras: the network that comes with this repository)",
    )
    add_experiments_option(which.add_argument)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("predictions"),
        metavar="DIR",
        help="folder for the results (default: ./predictions)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files in the output folder that run_prediction.py did not write, or that were changed "
        "since (default: refuse)",
    )
    parser.add_argument(
        "--engine",
        choices=("keras", "onnx", "openvino"),
        help="what computes the network (default: keras for an experiment, onnx for a file)",
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FILE.onnx",
        help="exported network (default with --engine onnx or openvino: that of the experiment, if one is "
        "named)",
    )
    parser.add_argument(
        "--fovea",
        metavar="ROW,COL|FILE.csv",
        help="position of the fovea in pixels of the file, row (downwards) and column (to the right) from 0: "
        "of a single image, or of each image in a CSV file with the columns image,row,column, where image is "
        "a name or path; adds quadrants and ETDRS rings to the table",
    )
    parser.add_argument(
        "--dicom",
        action="store_true",
        help="for DICOM files, also write a DICOM Segmentation and a structured report of the measurements; "
        "needs requirements/dicom_output.txt",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="also write report.html, one page with all results of the output folder, in English and Chinese",
    )
    add_cluster_options(parser)
    return parser


def _chosen(arguments: argparse.Namespace) -> NetworkChoice:
    if _names_no_network(arguments) and (file := shipped_network()):
        print(described_shipped_network())
        return NetworkChoice(arguments.engine or "onnx", file, (), tuple(arguments.overrides))
    if arguments.experiments:
        ensemble_name(arguments.experiments)
    names = arguments.experiments or [arguments.experiment]
    configuration = arguments.config or DEFAULT_CONFIGURATION
    named = [experiment_named(configuration, arguments.overrides, name) for name in names]
    engine, file = arguments.engine or ("onnx" if arguments.model else "keras"), None
    if engine == "keras" and arguments.model:
        raise UserError("--model: expected --engine onnx or openvino, or no --engine")
    if arguments.model and (arguments.experiment or arguments.config):
        raise UserError("--model: expected neither --experiment nor --config: the file has their settings")
    if engine != "keras":
        if arguments.experiments:
            raise UserError(
                "--experiments: expected --engine keras; an ONNX file is one network: export the mean with "
                "run_export.py --experiments, then give --model"
            )
        file = _onnx_file(arguments, named[0])
    else:
        for experiment in named:
            _refuse_untrained(arguments, experiment)
    if arguments.model:
        named = []  # the file need not be an export of an experiment here
    experiments = tuple((one.folder, one.name) for one in named)
    for experiment in named:
        # An ONNX file may have been copied without its configuration.
        is_stored = experiment.configuration.is_file()
        if is_stored and (warning := settings_not_used(experiment, configuration, arguments.overrides)):
            print(warning)
    return NetworkChoice(engine, file, experiments, tuple(arguments.overrides))


def _names_no_network(arguments: argparse.Namespace) -> bool:
    """Whether neither an experiment, nor a configuration, which names one, nor a file is given."""
    given = (arguments.experiment, arguments.experiments, arguments.config, arguments.model)
    in_overrides = any(override.lstrip().startswith("experiment name.") for override in arguments.overrides)
    return not (any(given) or in_overrides or arguments.engine == "keras")


def _refuse_untrained(arguments: argparse.Namespace, experiment: Experiment) -> None:
    try:
        refuse_untrained(experiment)
    except UserError as error:
        if not _names_no_network(arguments):
            raise
        raise UserError(f"{error}; nor is there {SHIPPED_NETWORK}, the default network") from None


def _onnx_file(arguments: argparse.Namespace, experiment: Experiment) -> Path:
    given = arguments.model
    if given is None and not experiment.onnx.is_file():
        _refuse_untrained(arguments, experiment)
        arguments.config = arguments.config or DEFAULT_CONFIGURATION
        command = f"{next_command('run_export.py', arguments)} {shlex.quote(experiment.name)}"
        raise UserError(f"{experiment.onnx}: no such file; write it with: {command}")
    return (given or experiment.onnx).absolute()


def main() -> None:
    """Predict each image, print where the results are and which images failed."""
    arguments = _parser().parse_args()

    # Imported here, so that run_script reports a missing package.
    from lib.prediction import folder, found_images, fovea, on_cluster, sliding_window

    dicom_objects = None
    if arguments.dicom:
        # highdicom is optional and takes seconds to import
        from lib.prediction.reports.dicom_objects import dicom_objects

    cluster = ClusterOptions.of(arguments)
    images = found_images.find_images(arguments.images, arguments.output)
    foveae = fovea.read_foveae(arguments.fovea, images)
    chosen = _chosen(arguments)
    network = chosen.read()
    print(sliding_window.described_window(network.testing_settings))
    with on_cluster.cluster_prediction(cluster, chosen, foveae, dicom_objects) as predict_many:
        table, failures = folder.predict_images(
            network,
            images,
            arguments.output,
            foveae,
            predict_many,
            overwrite=arguments.overwrite,
            dicom_objects=dicom_objects,
            report=arguments.report,
        )
    number = len(images) - len(failures)
    report = f", {table.with_name('report.html')}" * arguments.report
    print(f"results of {number} image{'s' * (number != 1)}: {table}{report}")
    if failures:
        print("\n".join([f"failed ({len(failures)}):", *(f"  - {line}" for line in failures)]))
        raise SystemExit(1)


if __name__ == "__main__":
    run_script(main)
