"""A trained network out of an experiment's folder, computed by Keras."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import h5py
import keras

from lib.configuration.experiment_folder import Experiment, refuse_other_settings
from lib.configuration.reading import Configuration, read_configuration
from lib.experiment import build_model
from lib.images import file_sha256
from lib.memory import HalvedBatches
from lib.operating_point import read_operating_point
from lib.prediction import with_batch_size
from lib.runtime.errors import UserError
from lib.runtime.safe_hdf5 import plain_datasets
from lib.trained_network import TrainedNetwork
from models.folding import folded

FIXED_BY_TRAINING = ("preprocessing", "model")
"""Sections that are part of what was learnt."""


def trained_model(
    configuration: Configuration, weights: Path, precision: str = "float32"
) -> keras.Model:
    """The network of the configuration with the weights of a file; nothing else is read from the file.

    It computes in `precision`, a dtype policy, whatever it was trained in.

    Raises:
        UserError: no such file, or not the weights of this network.
    """
    if not weights.is_file():
        raise UserError(f"{weights}: no trained network of that name; run run_training.py first")
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


def experiment_configuration(experiment: Experiment, overrides: Sequence[str]) -> Configuration:
    """What the experiment was trained with, the overrides laid over it.

    Raises:
        UserError: there is no such experiment, or an override changes what was learnt.
    """
    if not experiment.configuration.is_file():
        raise UserError(f"{experiment.folder}: no trained experiment; run run_training.py first")
    configuration = read_configuration(experiment.configuration, overrides)
    refuse_other_settings(experiment, configuration, FIXED_BY_TRAINING)
    return configuration


def read_keras_network(
    experiment: Experiment, overrides: Sequence[str] = ()
) -> tuple[TrainedNetwork, keras.Model]:
    """The trained network, and the Keras model that computes it.

    Raises:
        UserError: as `trained_model`, `experiment_configuration` and `read_operating_point`.
    """
    configuration = experiment_configuration(experiment, overrides)
    settings = configuration.testing_settings
    point = read_operating_point(experiment.operating_point, settings)
    weights = experiment.weights(settings.best_last)
    model = folded(trained_model(configuration, weights, point.precision))
    network = TrainedNetwork(
        name=experiment.name,
        architecture=configuration.model.architecture,
        structure=configuration.data_attributes.structure,
        label=configuration.preparation.labels[0],
        info_banner=configuration.preparation.info_banner,
        preprocessing=configuration.preprocessing,
        testing_settings=with_batch_size(model.predict_on_batch, settings),
        threshold=point.threshold,
        threshold_source=point.threshold_source,
        min_area_px=point.min_area_px,
        weights_sha256=file_sha256(weights),
        predict=HalvedBatches(model.predict_on_batch),
    )
    return network, model
