"""Import of the published weights of retina-unet as an experiment, which run_testing.py can evaluate."""

import json
from collections.abc import Iterator
from pathlib import Path

import h5py
import keras
import numpy as np

from lib.configuration.experiment_folder import Experiment
from lib.configuration.folder_lock import training_lock
from lib.configuration.reading import Configuration, read_configuration
from lib.datasets.split_file import Split, read_split, write_split
from lib.images.checked_files import file_sha256
from lib.networks.keras_model import build_model, save_weights, write_experiment_record
from lib.runtime.atomic_files import read_json, write_text
from lib.runtime.errors import UserError
from lib.runtime.safe_hdf5 import plain_datasets

RETINA_UNET_CONVOLUTIONS = 11
TRAINED_ON = "retina-unet: patches of all twenty training images of DRIVE; the last tenth of them validates"


def import_published_weights(configuration: Configuration, file: Path) -> Path:
    """Make an experiment from the weight file of retina-unet (Keras 1, channels first, trained with Theano).

    Args:
        configuration: gives the name of the experiment and the network, `retina_unet` with filters 32 64 128.
        file: `test_best_weights.h5` of github.com/orobix/retina-unet.

    Returns:
        The folder of the experiment.

    Raises:
        UserError: another file, another network, DRIVE is not prepared, or the experiment exists and holds
            a training, the weights of another file, or an import with another [preprocessing].
    """
    experiment = Experiment.of(configuration)
    trained = _split_trained_on(configuration.data_paths.split)
    model = _published_network(configuration, file)
    source = {
        "file": file.name,
        "sha256": file_sha256(file),
        "of": "https://github.com/orobix/retina-unet (MIT)",
    }
    with training_lock(experiment):
        _refuse_other_import(experiment, configuration, source["sha256"])
        write_experiment_record(experiment, configuration, model)
        write_split(experiment.split, trained, TRAINED_ON)
        write_text(experiment.configuration, configuration.as_text())
        write_text(experiment.source, json.dumps(source, indent=2) + "\n")
        for which in ("best", "last"):
            save_weights(model, experiment.weights(which))
    return experiment.folder


def _refuse_other_import(experiment: Experiment, configuration: Configuration, sha256: str) -> None:
    if not experiment.weights("best").is_file():
        return
    if not experiment.source.is_file():
        raise UserError(f"{experiment.folder} holds a training; choose another --experiment")
    if read_json(experiment.source, "choose another --experiment").get("sha256") != sha256:
        raise UserError(f"{experiment.folder} holds the weights of another file; choose another --experiment")
    if experiment.configuration.is_file():
        imported = read_configuration(experiment.configuration)
        if imported.preprocessing != configuration.preprocessing:
            raise UserError(
                f"{experiment.folder} holds the same weights with another [preprocessing]; choose another "
                "--experiment"
            )


def _published_network(configuration: Configuration, file: Path) -> keras.Model:
    published = list(retina_unet_weights(file))
    model = build_model(configuration)
    # Our network has its convolutions in the order of the original.
    expected, found = [tuple(v.shape) for v in model.weights], [array.shape for array in published]
    if found != expected:
        raise UserError(f"{file}: holds weights of the shapes {found}; the network has {expected}")
    model.set_weights(published)
    return model


def _split_trained_on(prepared: Path) -> Split:
    """All training images of DRIVE, in whatever part they are: a test on them would be data leakage."""
    split = read_split(prepared, "the prepared set DRIVE; run prepare_datasets_vessels.py DRIVE first")
    training = [m for part in split.values() for m in part if m.name.endswith("_training")]
    if len(training) != 20:
        raise UserError(f"{prepared}: not DRIVE; run prepare_datasets_vessels.py DRIVE first")
    return {"train": training, "validation": [], "test": []}


def retina_unet_weights(file: Path) -> Iterator[np.ndarray]:
    """Kernel (kh, kw, in, out) and bias (out,) float32 of each convolution, from input to output.

    The file has kernels (out, in, kh, kw) for Theano. Theano convolves and TensorFlow correlates, so that the
    kernels are turned by 180 degrees. Only numbers are read from the file.

    Raises:
        UserError: another file.
    """
    try:
        with h5py.File(file, "r") as store:
            plain_datasets(store)
            for number in range(1, RETINA_UNET_CONVOLUTIONS + 1):
                layer = f"convolution2d_{number}"
                kernel, bias = (store[layer][f"{layer}_{which}"] for which in "Wb")
                if kernel.ndim != 4 or bias.ndim != 1 or kernel.size > 1e6:
                    raise ValueError(f"{layer} has the shape {kernel.shape}")
                yield np.asarray(kernel, np.float32)[:, :, ::-1, ::-1].transpose(2, 3, 1, 0)
                yield np.asarray(bias, np.float32)
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{file}: not retina-unet's published weights ({error}); expected the file "
            "test_best_weights.h5 of github.com/orobix/retina-unet"
        ) from None
