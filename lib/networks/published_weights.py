"""Published weights of other people's systems, turned into experiments that run_testing.py scores."""

import json
from collections.abc import Iterator
from pathlib import Path

import h5py
import keras
import numpy as np

from lib.configuration.experiment_folder import Experiment
from lib.configuration.reading import Configuration
from lib.datasets.split_file import Split, read_split, write_split
from lib.images.checked_files import file_sha256
from lib.networks.keras_model import build_model, record, save_weights
from lib.runtime.atomic_files import write_text
from lib.runtime.errors import UserError
from lib.runtime.safe_hdf5 import plain_datasets

RETINA_UNET_CONVOLUTIONS = 11
TRAINED_ON = (
    "retina-unet: patches of all twenty images of DRIVE's training half, the last tenth validating"
)


def import_published_weights(configuration: Configuration, file: Path) -> Path:
    """Make an experiment from retina-unet's weight file (Keras 1, channels first, trained with Theano).

    Args:
        configuration: names the experiment; its network is `retina_unet` with filters 32 64 128.
        file: `test_best_weights.h5` of github.com/orobix/retina-unet.

    Returns:
        The experiment's folder.

    Raises:
        UserError: not such a file, the network has other shapes, or there is such an experiment.
    """
    experiment = Experiment.of(configuration)
    if experiment.weights("best").is_file() and not experiment.source.is_file():
        raise UserError(f"{experiment.folder} holds a training; choose another --experiment")
    split = configuration.data_paths.path_local / "split.json"
    trained = _split_trained_on(split)
    published = list(retina_unet_weights(file))
    model = build_model(configuration)
    _assign(model, published, file)
    record(experiment, configuration, model)
    write_split(experiment.split, trained, TRAINED_ON)
    write_text(experiment.configuration, configuration.as_text())
    source = {
        "file": file.name,
        "sha256": file_sha256(file),
        "of": "https://github.com/orobix/retina-unet (MIT)",
    }
    write_text(experiment.source, json.dumps(source, indent=2) + "\n")
    for which in ("best", "last"):
        save_weights(model, experiment.weights(which))
    return experiment.folder


def _split_trained_on(prepared: Path) -> Split:
    """All images of DRIVE's training half, whatever part of ours they are in: none may test."""
    split = read_split(prepared, "DRIVE; run prepare_datasets_vessels.py DRIVE first")
    half = [m for part in split.values() for m in part if m.name.endswith("_training")]
    if len(half) != 20:
        raise UserError(f"{prepared}: not DRIVE; run prepare_datasets_vessels.py DRIVE first")
    return {"train": half, "validation": [], "test": []}


def retina_unet_weights(file: Path) -> Iterator[np.ndarray]:
    """Kernel (kh, kw, in, out) and bias (out,) float32 of each convolution, from input to output.

    The file has kernels (out, in, kh, kw) for Theano, which convolves where TensorFlow correlates: they
    are turned by 180 degrees. Nothing but numbers is read from the file.

    Raises:
        UserError: not the file of that network.
    """
    try:
        with h5py.File(file, "r") as store:
            plain_datasets(store)
            for number in range(1, RETINA_UNET_CONVOLUTIONS + 1):
                layer = f"convolution2d_{number}"
                kernel, bias = (store[layer][f"{layer}_{which}"] for which in "Wb")
                if kernel.ndim != 4 or bias.ndim != 1 or kernel.size > 1e6:
                    raise ValueError(f"{layer} has the shape {kernel.shape}")
                yield np.float32(kernel[...])[:, :, ::-1, ::-1].transpose(2, 3, 1, 0)
                yield np.float32(bias[...])
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{file}: not retina-unet's published weights ({error}); expected the file "
            "test_best_weights.h5 of github.com/orobix/retina-unet"
        ) from None


def _assign(model: keras.Model, published: list[np.ndarray], file: Path) -> None:
    """Layer by layer: our network creates its convolutions in the order of the original's."""
    expected = [tuple(variable.shape) for variable in model.weights]
    found = [array.shape for array in published]
    if found != expected:
        raise UserError(f"{file}: holds weights of the shapes {found}; the network has {expected}")
    model.set_weights(published)
