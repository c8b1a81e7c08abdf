"""The folder of an experiment: the name of each file in it, and checks that its settings still hold."""

from __future__ import annotations

import csv
import glob
import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.configuration.ini_file import current_key
from lib.configuration.reading import Configuration, read_configuration
from lib.configuration.sections import FIGURE_FORMATS, SPLIT
from lib.runtime.atomic_files import read_json
from lib.runtime.errors import UserError, raise_all

FREE_TO_CHANGE = {"N_epochs", "patience", "devices", "nohup", "path_test", "path_images", "path_negatives"}
"""Settings that may change when a training continues. No training reads the folders of images: the prepared
images are compared by `refuse_other_split`."""


SCORE_KEYS = ("full_images_to_test", "N_group_visual", "connectivity", "figure_formats", "nohup")
"""Keys of [testing settings] for the scores and figures of a test only."""

PERFORMANCES, PER_IMAGE = "performances.json", "per_image.csv"
"""Names of the files with the scores of a test, pooled and of each image."""


CURVES = tuple(f"{name}.{ending}" for name in ("ROC", "Precision_recall") for ending in FIGURE_FORMATS)
"""Names of the files with the curves of a test, in all formats."""


class _File:
    """A property with the path of a file in the experiment's folder; {} stands for the experiment's name."""

    def __init__(self, file_name: str) -> None:
        self.file_name = file_name

    def __get__(self, experiment: Experiment, kind: type) -> Path:
        return experiment.folder / self.file_name.format(experiment.name)


@dataclass(frozen=True)
class Experiment:
    """The files of the experiment `name` in `folder`."""

    folder: Path
    name: str

    configuration = _File("{}_configuration.txt")  # of the training
    split = _File(SPLIT)  # the split by patient that the training used
    initial_split = _File("{}_initial_split.json")  # the images that its initial weights have seen
    history_file = _File("history.csv")  # one row for each epoch of the training
    checkpoint = _File("{}_checkpoint.npz")  # the state of the training after the last complete epoch
    versions = _File("{}_versions.json")  # versions of Python and packages, device, parameters, batch size
    source = _File("{}_source.json")  # origin of imported weights; absent if the network was trained here
    operating_point = _File("{}_operating_point.json")  # threshold and smallest area that testing chose
    predictions = _File("{}_predictions.hdf5")  # the test images with their probability maps
    performances = _File(PERFORMANCES)  # scores of the test; written last: then the test is complete
    onnx = _File("{}.onnx")  # the network that run_export.py wrote

    @classmethod
    def of(cls, configuration: Configuration) -> Experiment:
        """The experiment that the configuration names."""
        return cls(configuration.experiment_name.folder, configuration.experiment_name.name)

    def file(self, ending: str) -> Path:
        """`<folder>/<name><ending>`."""
        return self.folder / f"{self.name}{ending}"

    def weights(self, which: str) -> Path:
        """The weights of the `best` or `last` epoch."""
        return self.file(f"_{which}.weights.h5")

    def history(self) -> list[dict[str, float]]:
        """The rows of history.csv; none for imported weights or before the first epoch has ended.

        Raises:
            UserError: the file was changed and is not readable.
        """
        if not self.history_file.is_file():
            return []
        try:
            with self.history_file.open(encoding="utf-8", newline="") as stream:
                return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]
        except (ValueError, TypeError) as error:  # TypeError: a row is longer or shorter than the header
            raise UserError(
                f"{self.history_file}: not as run_training.py wrote it ({error}); restore it, or train again "
                "with run_training.py --fresh"
            ) from None

    def training_record(self) -> dict[str, Any]:
        """The content of `versions`: parameters, batch size, device, versions of the packages."""
        return read_json(self.versions, "train again with run_training.py --fresh")

    def clear(self) -> None:
        """Remove the files of an earlier training with this name, so that none is mistaken for a new one."""
        name = glob.escape(self.name)
        checkpoint = f"{name}_checkpoint*"  # first: without it no training continues from the other files
        scores = ("performances.*", PER_IMAGE)
        others = (f"{name}_*", f"{name}.onnx", "*.png", *CURVES, self.history_file.name, *scores)
        for pattern in (checkpoint, *others):
            for file in self.folder.glob(pattern):
                if file.suffix != ".nohup":
                    file.unlink()
        for results in self.folder.glob("on_*/"):  # tests on other data sets
            shutil.rmtree(results)

    def remove_unfinished(self) -> None:
        """Remove the temporary files of a killed training; the caller holds its lock, but a test may run."""
        name = glob.escape(self.name)
        names = (self.checkpoint.name, self.history_file.name)
        pictures = ("learning_curves.png", "sample_input_*.png")
        for pattern in (f"{name}_*.weights.h5", *map(glob.escape, names), *pictures):
            for file in self.folder.glob(f".[0-9]*-{pattern}"):
                file.unlink()


def experiment_named(file: Path, overrides: Sequence[str], name: str | None) -> Experiment:
    """The experiment `name`, or None: the one that the configuration `file` names.

    Only overrides of [experiment name] count: the others change the configuration of the experiment, which
    may allow what `file` does not.

    Raises:
        UserError: as `read_configuration`, or the name is a path.
    """
    chosen = [override for override in overrides if override.lstrip().startswith("experiment name.")]
    chosen += [] if name is None else [f"experiment name.name={name}"]
    return Experiment.of(read_configuration(file, chosen))


def trained_experiments(path_experiments: Path) -> str:
    """The trained experiments of a folder, which have a configuration and weights, as a sentence."""
    folders = [folder for folder in path_experiments.glob("*/") if any(folder.glob("*.weights.h5"))]
    names = sorted(f.name for f in folders if Experiment(f, f.name).configuration.is_file())
    if names:
        return f"trained experiments in {path_experiments}: {', '.join(names)}"
    return f"no experiment in {path_experiments} is trained; run run_training.py first"


def refuse_untrained(experiment: Experiment, needed: Path | None = None) -> None:
    """Refuse an experiment without the file `needed`, by default its configuration.

    Raises:
        UserError: names the trained experiments beside it.
    """
    needed = needed or experiment.configuration
    if not needed.is_file():
        raise UserError(
            f"no trained experiment {experiment.name} ({needed} does not exist); "
            f"{trained_experiments(experiment.folder.parent)}"
        )


def refuse_other_settings(
    experiment: Experiment, configuration: Configuration, sections: tuple[str, ...]
) -> None:
    """Refuse to continue or to test a training that had other settings.

    Raises:
        UserError: lists each setting of `sections` that differs from the stored configuration.
    """
    stored = read_configuration(experiment.configuration)
    free = set(FREE_TO_CHANGE)
    if configuration.training_settings.learning_rate_schedule == "cosine":
        free.discard("N_epochs")  # the schedule ends with the last epoch
    faults = [
        f"[{section}] {name} = {configuration.texts[section][name]}, trained with {value}"
        for section in sections
        for name, value in stored.texts[section].items()
        if name not in free
        and getattr(getattr(stored, section.replace(" ", "_")), name)
        != getattr(getattr(configuration, section.replace(" ", "_")), name)
    ]
    raise_all(
        faults,
        f"{experiment.folder} was trained with other settings; restore them, choose another "
        "[experiment name] name, or start again with run_training.py --fresh",
    )


def settings_not_used(experiment: Experiment, file: Path, overrides: Sequence[str]) -> str:
    """A warning, if a configuration file has other settings of the prediction than its experiment.

    A prediction uses those that are stored with the experiment, and `overrides`; a test uses those of the
    file. Empty if they are equal, if `overrides` gives them, or if the file names another experiment.
    """
    names = [override for override in overrides if override.lstrip().startswith("experiment name.")]
    given = read_configuration(file, names)
    if Experiment.of(given) != experiment:
        return ""
    stored = read_configuration(experiment.configuration)
    overridden = {current_key(*override.partition("=")[::2]) for override in overrides}
    keys = [("testing settings", key) for key in given.texts["testing settings"] if key not in SCORE_KEYS]
    differences = {
        f"{section}.{key}={given.texts[section][key]}": stored.texts[section][key]
        for section, key in [*keys, ("preparation", "info_banner")]
        if f"{section}.{key}" not in overridden
        and getattr(getattr(given, section.replace(" ", "_")), key)
        != getattr(getattr(stored, section.replace(" ", "_")), key)
    }
    if not differences:
        return ""
    used = "; ".join(f"{setting}, used is {value}" for setting, value in differences.items())
    options = " ".join(f'--set "{setting}"' for setting in differences)
    return (
        f"warning: {file} differs from the settings that are stored with {experiment.name}, which are used: "
        f"{used}. To use those of the file: {options}"
    )


def refuse_other_split(experiment: Experiment, configuration: Configuration) -> None:
    """Refuse images that were prepared with another split after the training began.

    Raises:
        UserError: names the two files that differ, or one that is missing or damaged.
    """
    prepared = configuration.data_paths.split
    now = read_json(prepared, "prepare the data again").get("parts")
    trained = read_json(experiment.split, "start again with run_training.py --fresh").get("parts")
    if now != trained:
        raise UserError(
            f"{experiment.folder} was trained on another split than {prepared} holds; choose another "
            "[experiment name] name, or start again with run_training.py --fresh"
        )


def ensemble_name(names: Sequence[str]) -> str:
    """Name an ensemble: the names of its experiments joined by "+", or the first and a digest of all.

    Raises:
        UserError: fewer than two names, or a name is given twice.
    """
    if len(set(names)) < len(names) or len(names) < 2:
        raise UserError(f"--experiments {' '.join(names)}: expected two or more different names")
    joined = "+".join(names)
    digest = hashlib.sha256(joined.encode()).hexdigest()[:8]
    return joined if len(joined) <= 80 else f"{names[0]}+{len(names) - 1}_others_{digest}"
