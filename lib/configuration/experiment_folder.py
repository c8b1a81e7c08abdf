"""The folder of an experiment: the name of each file in it, and checks that its settings still hold."""

from __future__ import annotations

import glob
import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.configuration.reading import Configuration, read_configuration
from lib.runtime.errors import UserError, raise_all

FREE_TO_CHANGE = {"N_epochs", "patience", "devices", "nohup", "path_test"}
"""Settings of the training that may change between a run and its continuation."""


@dataclass(frozen=True)
class Experiment:
    """The files of the experiment `name` in `folder`."""

    folder: Path
    name: str

    @classmethod
    def of(cls, configuration: Configuration) -> Experiment:
        """The experiment that the configuration names."""
        return cls(configuration.experiment_name.folder, configuration.experiment_name.name)

    def file(self, ending: str) -> Path:
        """`<folder>/<name><ending>`."""
        return self.folder / f"{self.name}{ending}"

    def weights(self, which: str) -> Path:
        """The `best` or `last` weights."""
        return self.file(f"_{which}.weights.h5")

    @property
    def configuration(self) -> Path:
        """The configuration used."""
        return self.file("_configuration.txt")

    @property
    def split(self) -> Path:
        """The split trained on."""
        return self.folder / "split.json"

    @property
    def predictions(self) -> Path:
        """The test images with their probabilities."""
        return self.file("_predictions.hdf5")

    @property
    def operating_point(self) -> Path:
        """Threshold and smallest area, as testing chose them."""
        return self.file("_operating_point.json")

    @property
    def versions(self) -> Path:
        """What it was trained with and on."""
        return self.file("_versions.json")

    @property
    def onnx(self) -> Path:
        """The network as exported by run_export.py."""
        return self.file(".onnx")

    @property
    def source(self) -> Path:
        """Whence imported weights came; absent where they were trained here."""
        return self.file("_source.json")

    def clear(self) -> None:
        """Remove what an earlier training of this name left, so that nothing of it is taken for new."""
        name = glob.escape(self.name)
        for pattern in (
            f"{name}_checkpoint*",  # first: what is left of the rest is nothing to go on from
            f"{name}_*",
            f"{name}.onnx",
            "*.png",
            "history.csv",
            "performances.*",
            "per_image.csv",
        ):
            for file in self.folder.glob(pattern):
                if file.suffix != ".nohup":
                    file.unlink()
        for results in self.folder.glob("on_*/"):  # of other sets' images
            shutil.rmtree(results)

    def remove_unfinished(self) -> None:
        """Remove what a killed training was writing; the caller holds the lock."""
        name = glob.escape(self.name)
        for pattern in (f"{name}_*.weights.h5", f"{name}_checkpoint.npz", "history.csv", "*.png"):
            for file in self.folder.glob(f".[0-9]*-{pattern}"):
                file.unlink()

    @property
    def checkpoint(self) -> Path:
        """The state after the last whole epoch."""
        return self.file("_checkpoint.npz")


def refuse_other_settings(
    experiment: Experiment, configuration: Configuration, sections: tuple[str, ...]
) -> None:
    """Refuse to go on with, or to test, what was trained with other settings.

    Raises:
        UserError: lists each setting of `sections` that differs from the experiment's own.
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
        "[experiment name] name, or train anew: run_training.py --fresh",
    )


def refuse_other_split(experiment: Experiment, configuration: Configuration) -> None:
    """Refuse images prepared anew with another split since the training began.

    Raises:
        UserError: says which files differ.
    """
    prepared = configuration.data_paths.path_local / "split.json"
    parts = [
        json.loads(f.read_text(encoding="utf-8"))["parts"] for f in (prepared, experiment.split)
    ]
    if parts[0] != parts[1]:
        raise UserError(
            f"{experiment.folder} was trained on another split than {prepared} holds; choose another "
            "[experiment name] name, or train anew: run_training.py --fresh"
        )


def ensemble_name(names: Sequence[str]) -> str:
    """The name of several experiments together: joined by "+", or the first and a digest of all.

    Raises:
        UserError: fewer than two names, or one twice.
    """
    if len(set(names)) < len(names) or len(names) < 2:
        raise UserError(f"--experiments {' '.join(names)}: expected two or more different names")
    joined = "+".join(names)
    digest = hashlib.sha256(joined.encode()).hexdigest()[:8]
    return joined if len(joined) <= 80 else f"{names[0]}+{len(names) - 1}_others_{digest}"
