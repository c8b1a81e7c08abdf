"""Keras models: build from the configuration, load, save, describe; the devices that Keras uses."""

import json
import platform
import shutil
import warnings
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path

import h5py
import keras
import numpy as np

import models
from lib.configuration.experiment_folder import Experiment
from lib.configuration.reading import Configuration
from lib.configuration.sections import TestingSettings
from lib.datasets.leakage import INITIAL_WEIGHTS_SHA256, initial_weights_sha256
from lib.datasets.prepared_hdf5 import read_part
from lib.images.preprocessing import field_of_view_diameter, is_in_colour
from lib.networks.batches import with_batch_size, with_tile_size
from lib.networks.trained_network import TrainingImages
from lib.runtime.atomic_files import write_text, written_atomically
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT
from lib.runtime.safe_hdf5 import plain_datasets
from models.cost import activation_bytes_per_pixel
from models.efficientnet_unet import encoder_layers

TRAINING_IMAGES = "training_images"
"""Key, in the record of an experiment, of the scale and colour of its training images."""

IMAGENET_ENCODER = PROJECT / "pretrained" / "efficientnet_lite0" / "encoder.npz"
"""Kernels and biases of EfficientNet-Lite0, float16; the README.md beside it says where they come from."""


def prediction_settings(model: keras.Model, settings: TestingSettings) -> TestingSettings:
    """The settings with the fastest batch size instead of "auto", and tiles that fit into memory."""
    settings = with_tile_size(settings, partial(activation_bytes_per_pixel, model))
    return with_batch_size(model.predict_on_batch, settings, model.input_shape[-1])


def build_model(configuration: Configuration, precision: str | None = None) -> keras.Model:
    """The network of section [model] with random weights, which follow from the seed of the training.

    Its input has the channels of section [preprocessing].

    `precision` is the dtype policy of Keras; None for that of the training.
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
        channels=len(configuration.preprocessing.channels),
    )


def load_imagenet_encoder(model: keras.Model) -> None:
    """Give the encoder of an `efficientnet_unet`, of any number of levels, its weights trained on ImageNet.

    The stem was trained on three colours. For another number of channels, each channel gets the mean of the
    three kernels, scaled so that the sum over the channels stays the same.
    """
    with np.load(IMAGENET_ENCODER, allow_pickle=False) as arrays:
        for name, layer in encoder_layers(model).items():
            kernel, bias = (arrays[f"{name}/{part}"].astype(np.float32) for part in ("kernel", "bias"))
            channels = layer.kernel.shape[2]
            if name == "stem" and channels != kernel.shape[2]:
                kernel = np.repeat(kernel.sum(axis=2, keepdims=True) / channels, channels, axis=2)
            layer.set_weights([kernel, bias])


def trained_model(configuration: Configuration, weights: Path, precision: str = "float32") -> keras.Model:
    """The network of section [model] with the weights of a file, from which nothing else is read.

    `precision` is the dtype policy of Keras; it may differ from that of the training.

    Raises:
        UserError: the file does not exist, or holds weights of another network.
    """
    if not weights.is_file():
        raise UserError(f"{weights}: no such file; expected weights that run_training.py wrote")
    model = build_model(configuration, precision)
    try:
        _check_numbers(weights, model)
        with warnings.catch_warnings():
            # Keras only warns if the file lacks a layer.
            warnings.simplefilter("error", UserWarning)
            model.load_weights(weights)
    except (ValueError, OSError, KeyError, RuntimeError, UserWarning) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{weights}: not the weights of this network ({reason}); "
            f"{_expected_model(configuration, weights)}"
        ) from None
    return model


def _expected_model(configuration: Configuration, weights: Path) -> str:
    """Which network the configuration has, and which file says what the weights need."""
    settings = configuration.model
    found = f"{settings.architecture} with filters = {' '.join(map(str, settings.filters))}"
    stored = next(weights.parent.glob("*configuration.txt"), "the configuration of their training")
    return f"[model] is {found}: expected the keys of [model] as in {stored}"


def save_weights(model: keras.Model, file: Path) -> None:
    """Write the complete `.weights.h5` file, or nothing and raise a `UserError`."""
    without_optimizer = keras.Model(model.inputs, model.outputs)
    with written_atomically(file) as (beside,):
        # On a full disk HDF5 aborts the process, but Python raises an error: reserve the space first.
        beside.write_bytes(bytes(4 * model.count_params() + 4096 * len(model.weights)))
        without_optimizer.save_weights(beside)


def write_experiment_record(experiment: Experiment, configuration: Configuration, model: keras.Model) -> None:
    """Write the split, the architecture, a summary, a drawing and the versions of the software."""
    split = configuration.data_paths.split
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
        TRAINING_IMAGES: _described_training_images(configuration),
        INITIAL_WEIGHTS_SHA256: initial_weights_sha256(configuration),
        "versions": {name: version(name) for name in ("keras", keras.backend.backend(), "numpy")},
    }
    write_text(experiment.versions, json.dumps(about, indent=2) + "\n")
    _draw_model(experiment, model)


def _described_training_images(configuration: Configuration) -> dict[str, int | bool] | None:
    """`TrainingImages` of the prepared images that train, as a dict; None if there are none."""
    # With validation = patches, images of both parts train.
    parts = ("train", "validation") if configuration.training_settings.validation == "patches" else ("train",)
    packed = [configuration.data_paths.hdf5(part) for part in parts]
    packed = [files for files in packed if all(file.is_file() for file in files)]
    if not packed:  # weights from elsewhere
        return None
    seen = [
        (field_of_view_diameter(image.field_of_view), is_in_colour(image.original, image.field_of_view))
        for files in packed
        for image in read_part(files)
    ]
    diameters, colours = zip(*seen, strict=True)
    return asdict(TrainingImages(min(diameters), max(diameters), any(colours)))


def recorded_training_images(experiment: Experiment) -> TrainingImages | None:
    """What `write_experiment_record` has recorded; None for experiments of earlier versions."""
    recorded = experiment.training_record().get(TRAINING_IMAGES) if experiment.versions.is_file() else None
    return recorded and TrainingImages(**recorded)


def devices() -> list[str]:
    """The devices on which Keras computes, e.g. ["gpu:0"] or ["cpu:0"]."""
    return [str(d) for d in keras.distribution.list_devices()] or ["cpu"]


def has_gpu() -> bool:
    """Whether Keras computes on a GPU."""
    return any("gpu" in d or "cuda" in d for d in devices())


def _check_numbers(weights: Path, model: keras.Model) -> None:
    """Check, before any array is read, that the file holds as many numbers as the network.

    Raises:
        ValueError: the number differs, or a data set has another type, or refers to another file.
    """
    with h5py.File(weights, "r") as store:
        datasets = plain_datasets(store)
        if other := [name for name, d in datasets.items() if d.dtype.kind not in "fiu"]:
            raise ValueError(f"{other[0]} holds no numbers")
        found = sum(dataset.size for dataset in datasets.values())
    if found != model.count_params():
        raise ValueError(f"{found} numbers in the file, {model.count_params()} in the network")


def _draw_model(experiment: Experiment, model: keras.Model) -> None:
    """Draw the network if Graphviz is installed."""
    if shutil.which("dot") is None:
        return
    try:
        with written_atomically(experiment.file("_model.png")) as (beside,):
            keras.utils.plot_model(model, beside, show_shapes=True, dpi=60)
    except Exception as error:  # the training does not need the drawing, whatever the error is
        print(f"no drawing of the network: {error}")
