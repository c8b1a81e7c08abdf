"""Keras models: built from the configuration, loaded, saved, recorded; the devices that compute them."""

import json
import platform
import shutil
import warnings
from importlib.metadata import version
from pathlib import Path

import h5py
import keras

import models
from lib.configuration.experiment_folder import Experiment
from lib.configuration.reading import Configuration
from lib.runtime.atomic_files import write_text, written_atomically
from lib.runtime.errors import UserError
from lib.runtime.safe_hdf5 import plain_datasets


def trained_model(
    configuration: Configuration, weights: Path, precision: str = "float32"
) -> keras.Model:
    """The network of the configuration with the weights of a file; nothing else is read from the file.

    It computes in `precision`, a dtype policy, whatever it was trained in.

    Raises:
        UserError: no such file, or not the weights of this network.
    """
    if not weights.is_file():
        raise UserError(f"{weights}: no such file; expected weights that run_training.py wrote")
    model = build_model(configuration, precision)
    try:
        _check_numbers(weights, model)
        with warnings.catch_warnings():
            # Keras only warns of layers that the file does not hold.
            warnings.simplefilter("error", UserWarning)
            model.load_weights(weights)
    except (ValueError, OSError, KeyError, RuntimeError, UserWarning) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{weights}: not the weights of this network ({reason})") from None
    return model


def _check_numbers(weights: Path, model: keras.Model) -> None:
    """That the file holds as many numbers as the network, in itself, before any is read.

    Raises:
        ValueError: it does not.
    """
    with h5py.File(weights, "r") as store:
        datasets = plain_datasets(store)
        if other := [name for name, d in datasets.items() if d.dtype.kind not in "fiu"]:
            raise ValueError(f"{other[0]} holds no numbers")
        found = sum(dataset.size for dataset in datasets.values())
    if found != model.count_params():
        raise ValueError(f"{found} numbers in the file, {model.count_params()} in the network")


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
    with written_atomically(file) as (beside,):
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
        with written_atomically(experiment.file("_model.png")) as (beside,):
            keras.utils.plot_model(model, beside, show_shapes=True, dpi=60)
    except Exception as error:  # whatever ails Graphviz, the training does not need it
        print(f"no picture of the network: {error}")
