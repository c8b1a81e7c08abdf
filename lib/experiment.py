"""The folder of an experiment: which file is called what, and what a reader will want to know of it."""

import json
import platform
import shutil
from importlib.metadata import version
from pathlib import Path

import keras

import models
from lib.configuration.experiment_folder import Experiment
from lib.configuration.reading import Configuration
from lib.runtime.atomic_files import write_text, written_beside


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
