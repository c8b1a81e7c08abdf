"""The folder of an experiment: which file is called what, and what a reader will want to know of it."""

import fcntl
import glob
import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import keras

import models
from lib.configuration import Configuration, read_configuration
from lib.runtime.atomic_files import write_text, written_beside
from lib.runtime.errors import UserError, raise_all

RETRAIN_FREELY = {"N_epochs", "patience", "devices", "nohup", "path_test"}
"""Settings of the training that may change between a run and its continuation."""


@dataclass(frozen=True)
class Experiment:
    """The files of the experiment `name` in `folder`."""

    folder: Path
    name: str

    @classmethod
    def of(cls, configuration: Configuration) -> "Experiment":
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
        """The network as exported by lib.onnx_export."""
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


class FolderTaken(UserError):
    """Another training is running in the experiment's folder."""


@contextmanager
def alone_in(experiment: Experiment) -> Iterator[None]:
    """Keep other trainings out of the folder; the lock ends with its process, however that ends.

    Raises:
        FolderTaken: another training has it.
    """
    experiment.folder.mkdir(parents=True, exist_ok=True)
    file = experiment.folder / "training.lock"  # never removed: two could then lock two files
    with file.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise FolderTaken(
                f"{experiment.folder}: another training is running in it ({lock.read().strip()}); "
                "wait for it or end it, or choose another [experiment name] name"
            ) from None
        except OSError as error:
            print(
                f"{file}: no locks here ({error.strerror}); start no second training in this folder"
            )
        lock.truncate(0)
        print(f"process {os.getpid()} on {platform.node()}", file=lock, flush=True)
        yield


def build_model(configuration: Configuration, precision: str | None = None) -> keras.Model:
    """The network of section [model], its weights drawn from the training's seed.

    Args:
        configuration: of the experiment.
        precision: Keras' dtype policy; None is that of the training.
    """
    keras.config.set_dtype_policy(precision or configuration.training_settings.precision)
    keras.utils.set_random_seed(configuration.training_settings.seed)
    settings = configuration.model
    return models.build(
        settings.architecture,
        filters=settings.filters,
        reduction_ratio=settings.reduction_ratio,
        dropout=settings.dropout,
        batch_normalisation=settings.batch_normalisation,
    )


def save_weights(model: keras.Model, file: Path) -> None:
    """Write `.weights.h5` so that it appears whole."""
    weights_alone = keras.Model(model.inputs, model.outputs)  # without the optimizer's state
    with written_beside(file) as (beside,):
        # HDF5 aborts the process where the disk fills up; Python raises. So try the room first.
        beside.write_bytes(bytes(4 * model.count_params() + 4096 * len(model.weights)))
        weights_alone.save_weights(beside)


def record(experiment: Experiment, configuration: Configuration, model: keras.Model) -> None:
    """Leave split, architecture, parameter count, picture and versions in the folder."""
    split = configuration.data_paths.path_local / "split.json"
    write_text(experiment.split, split.read_text(encoding="utf-8"))
    write_text(experiment.file("_architecture.json"), model.to_json(indent=1))
    lines: list[str] = []
    model.summary(line_length=110, print_fn=lambda line, **_: lines.append(line))
    write_text(experiment.file("_summary.txt"), "\n".join(lines) + "\n")
    about = {
        "architecture": configuration.model.architecture,
        "parameters": model.count_params(),
        "batch_size": configuration.training_settings.batch_size,
        "python": platform.python_version(),
        "backend": keras.backend.backend(),
        "device": ", ".join(devices()),
        "platform": platform.platform(),
        "versions": {name: version(name) for name in ("keras", keras.backend.backend(), "numpy")},
    }
    write_text(experiment.versions, json.dumps(about, indent=2) + "\n")
    _draw_model(experiment, model)


def devices() -> list[str]:
    """What Keras computes on, e.g. ["gpu:0"] or ["cpu:0"]."""
    return [str(d) for d in keras.distribution.list_devices()] or ["cpu"]


def has_gpu() -> bool:
    """Whether Keras computes on a GPU."""
    return any("gpu" in d or "cuda" in d for d in devices())


def _draw_model(experiment: Experiment, model: keras.Model) -> None:
    """A drawing, where Graphviz is installed; `_summary.txt` is there in any case."""
    if shutil.which("dot") is None:
        return
    try:
        with written_beside(experiment.file("_model.png")) as (beside,):
            keras.utils.plot_model(model, beside, show_shapes=True, dpi=60)
    except Exception as error:  # whatever ails Graphviz, the training does not need it
        print(f"no picture of the network: {error}")


def refuse_other_settings(
    experiment: Experiment, configuration: Configuration, sections: tuple[str, ...]
) -> None:
    """Refuse to go on with, or to test, what was trained with other settings.

    Raises:
        UserError: lists each setting of `sections` that differs from the experiment's own.
    """
    stored = read_configuration(experiment.configuration)
    free = set(RETRAIN_FREELY)
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
