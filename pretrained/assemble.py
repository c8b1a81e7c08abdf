r"""Write the files of pretrained/cnp_ffa/ from trained experiments; its README.md is written by hand.

    python -m pretrained.assemble A B C --set "testing settings.threshold=0.5" \
        --set "testing settings.min_area_px=0"

The ONNX file is the mean of the experiments A, B and C, with float16 weights. The weights to begin a training
with are those of A, as float16. The configuration has the settings of A, but paths and patients of
configuration.txt. The split has the images of all of them and of their initial weights: what one of them has
seen, the network has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from lib.configuration.experiment_folder import Experiment, experiment_named, refuse_untrained
from lib.configuration.reading import Configuration, read_configuration
from lib.configuration.sections import SPLIT
from lib.datasets.leakage import EXPERIMENT, splits_of_initial_weights
from lib.datasets.split_file import read_split, union_of_splits, write_split
from lib.images.checked_files import file_sha256
from lib.networks.network_choice import SHA256SUMS, SHIPPED_NETWORK
from lib.runtime.atomic_files import write_text, written_atomically
from lib.runtime.command_line import run_script, script_parser
from lib.runtime.keras_startup import start_keras
from lib.runtime.paths import DEFAULT_CONFIGURATION

OF_THE_DATA = ("data paths", "preparation", "experiment name")
"""Sections that describe the images of a training, and not the network."""


def write_folder(experiments: Sequence[Experiment], overrides: Sequence[str], folder: Path) -> list[Path]:
    """Write the ONNX file, weights, split, configuration and SHA256SUMS; Keras must be started.

    Returns:
        The files.

    Raises:
        UserError: as `lib.networks.onnx_export.export`, or an experiment has no split.
    """
    from lib.networks.onnx_export import export  # imports Keras

    name = SHIPPED_NETWORK.stem
    onnx, weights = folder / f"{name}.onnx", folder / f"{name}.weights.h5"
    split, configuration = folder / SPLIT, folder / "configuration.txt"
    export(experiments, overrides, onnx, float16_weights=True)
    first = read_configuration(experiments[0].configuration, overrides)
    _write_float16(experiments[0].weights(first.testing_settings.best_last), weights)
    write_text(configuration, _settings_for_fine_tuning(first))
    splits = [
        read_split(file, EXPERIMENT)
        for experiment in experiments
        for file in (experiment.split, *_splits_before(experiment))
    ]
    names = ", ".join(experiment.name for experiment in experiments)
    write_split(
        split, union_of_splits(splits), f"union of the splits of {names} and of their initial weights"
    )
    written = [onnx, weights, split, configuration]
    lines = [f"{file_sha256(file)}  {file.name}\n" for file in written]
    write_text(folder / SHA256SUMS, "".join(lines))
    return [*written, folder / SHA256SUMS]


def _write_float16(weights: Path, file: Path) -> None:
    """Copy a weight file of Keras with its numbers as float16: half the size, as in the ONNX file."""
    with (
        h5py.File(weights) as given,
        written_atomically(file) as (beside,),
        h5py.File(beside, "w") as written,
    ):

        def copy(name: str, found: h5py.Group | h5py.Dataset) -> None:
            if isinstance(found, h5py.Dataset):
                half = found.dtype.kind == "f"
                written.create_dataset(name, data=found[()].astype(np.float16) if half else found[()])
            else:
                written.require_group(name)
            written[name].attrs.update(found.attrs)

        given.visititems(copy)


def _settings_for_fine_tuning(trained: Configuration) -> str:
    """The settings of a training without its paths and patients, for trainings on other images."""
    sections = {name: dict(keys) for name, keys in trained.texts.items()}
    default = read_configuration(DEFAULT_CONFIGURATION).texts
    sections |= {name: dict(default[name]) for name in OF_THE_DATA}
    of_the_data = ("initial_weights", "validation", "negatives_share")
    sections["training settings"] |= {key: default["training settings"][key] for key in of_the_data}
    return replace(trained, texts=sections).as_text()


def _splits_before(experiment: Experiment) -> list[Path]:
    configuration = read_configuration(experiment.configuration)
    return [file for _, file in splits_of_initial_weights(configuration, experiment)]


def main() -> None:
    """Write the folder, print the files."""
    parser = script_parser(__doc__.partition("\n")[0])
    parser.add_argument("experiments", nargs="+", metavar="NAME", help="names of the experiments")
    arguments = parser.parse_args()
    named = [experiment_named(arguments.config, arguments.overrides, name) for name in arguments.experiments]
    for experiment in named:
        refuse_untrained(experiment)
    start_keras()
    for file in write_folder(named, arguments.overrides, SHIPPED_NETWORK.parent):
        print(f"{file}: {file.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    run_script(main)
