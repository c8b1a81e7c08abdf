"""Reading the trained network of an experiment, or of several as an ensemble, to be computed by Keras."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras

from lib.configuration.experiment_folder import (
    Experiment,
    ensemble_name,
    refuse_other_settings,
    refuse_untrained,
)
from lib.configuration.reading import Configuration, read_configuration
from lib.configuration.sections import by_validation
from lib.datasets.leakage import seen_images
from lib.images.checked_files import file_sha256
from lib.networks.batches import HalfBatchRetry
from lib.networks.keras_model import prediction_settings, recorded_training_images, trained_model
from lib.networks.operating_point import PREDICTION_KEYS, read_operating_point
from lib.networks.trained_network import TrainedNetwork, joined, label_of
from lib.runtime.errors import UserError, raise_all
from models.folding import fold_for_prediction

SECTIONS_FIXED_BY_TRAINING = ("preprocessing", "model")
"""Sections that cannot change after the training."""

DEGREES_KEYS = ("training_field_of_view_degrees", "test_field_of_view_degrees")
"""Keys of [testing settings] that change the probabilities of other images than those of the validation."""

SECTIONS_EQUAL_IN_ENSEMBLE = ("preprocessing",)
"""Sections that must be equal in all members of an ensemble."""


def read_keras_network(
    experiment: Experiment, overrides: Sequence[str] = ()
) -> tuple[TrainedNetwork, keras.Model]:
    """The trained network of an experiment, and the Keras model that computes it.

    Raises:
        UserError: as `trained_model`, `experiment_configuration` and `read_operating_point`.
    """
    configuration = experiment_configuration(experiment, overrides)
    settings = configuration.testing_settings
    weights = experiment.weights(settings.best_last)
    refuse_untrained(experiment, weights)
    weights_sha256 = file_sha256(weights)
    point = read_operating_point(experiment.operating_point, settings, weights_sha256)
    model = fold_for_prediction(trained_model(configuration, weights, point.precision))
    refuse_replaced_weights(weights, weights_sha256)
    network = TrainedNetwork(
        name=experiment.name,
        architecture=configuration.model.architecture,
        structure=configuration.data_attributes.structure,
        label=label_of(configuration.data_attributes.structure, configuration.preparation.labels[0]),
        info_banner=configuration.preparation.info_banner,
        preprocessing=configuration.preprocessing,
        testing_settings=prediction_settings(model, settings),
        threshold=point.threshold,
        threshold_source=point.threshold_source,
        min_area_px=point.min_area_px,
        weights_sha256=weights_sha256,
        predict=HalfBatchRetry(model.predict_on_batch),
        seen_images_sha256=seen_images(experiment, configuration),
        training_images=recorded_training_images(experiment),
    )
    return network, model


def read_keras_ensemble(experiments: Sequence[Experiment], overrides: Sequence[str] = ()) -> TrainedNetwork:
    """Several trained networks as one, which predicts one channel for each. They must have the same settings.

    Raises:
        UserError: as `read_keras_network`; structures, or settings of the preprocessing or of the prediction,
            differ between the experiments (all are listed); the threshold is not a number.
    """
    name = ensemble_name([experiment.name for experiment in experiments])
    configurations = [experiment_configuration(e, overrides) for e in experiments]
    first = configurations[0]
    if any(by_validation(c.testing_settings) for c in configurations):
        raise UserError(
            f"{name}: the thresholds of the single networks do not hold for their mean; give numbers: "
            '--set "testing settings.threshold=0.5" --set "testing settings.min_area_px=0"'
        )
    for experiment in experiments[1:]:
        refuse_other_settings(experiment, first, SECTIONS_EQUAL_IN_ENSEMBLE)
    raise_all(
        [
            f"[data attributes] structure = {structure} in {e.name}, {first.data_attributes.structure} in "
            f"{experiments[0].name}"
            for e, c in zip(experiments, configurations, strict=True)
            if (structure := c.data_attributes.structure) != first.data_attributes.structure
        ],
        f"{name}: one ensemble outlines one structure",
    )
    raise_all(
        [
            f"[testing settings] {key} = {getattr(c.testing_settings, key)} in {e.name}, "
            f"{getattr(first.testing_settings, key)} in {experiments[0].name}"
            for e, c in zip(experiments, configurations, strict=True)
            for key in ("threshold", "min_area_px", *DEGREES_KEYS, *PREDICTION_KEYS)
            if getattr(c.testing_settings, key) != getattr(first.testing_settings, key)
        ],
        f"{name}: the experiments predict in different ways; choose one with --set",
    )
    networks, models = zip(*(read_keras_network(e, overrides) for e in experiments), strict=True)
    together = side_by_side_model(models)
    seen = [network.seen_images_sha256 for network in networks]
    return replace(
        networks[0],
        name=name,
        architecture=" + ".join(network.architecture for network in networks),
        testing_settings=prediction_settings(together, networks[0].testing_settings),
        weights_sha256=" ".join(network.weights_sha256 for network in networks),
        predict=HalfBatchRetry(together.predict_on_batch),
        seen_images_sha256=frozenset().union(*seen) if all(seen) else frozenset(),  # those of one are unknown
        training_images=joined([network.training_images for network in networks]),
    )


def mean_model(members: Sequence[keras.Model]) -> keras.Model:
    """A model whose output is the mean of the outputs of `members`."""
    return _joined_model(members, keras.layers.Average(dtype="float32"))


def side_by_side_model(members: Sequence[keras.Model]) -> keras.Model:
    """A model with the output of each of `members` as one channel."""
    return _joined_model(members, keras.layers.Concatenate(dtype="float32"))


def _joined_model(members: Sequence[keras.Model], outputs_joined: keras.layers.Layer) -> keras.Model:
    if len(members) == 1:
        return members[0]
    image = keras.Input(members[0].input_shape[1:])
    # Members of the same architecture have the same name, but Keras wants different ones.
    named = [keras.Model(m.input, m.output, name=f"member{n}") for n, m in enumerate(members)]
    return keras.Model(image, outputs_joined([member(image) for member in named]))


def refuse_replaced_weights(weights: Path, sha256: str) -> None:
    """Refuse weights that a training has replaced since their SHA-256 was computed."""
    if file_sha256(weights) != sha256:
        raise UserError(f"{weights}: a training has replaced these weights meanwhile; run this script again")


def experiment_configuration(experiment: Experiment, overrides: Sequence[str]) -> Configuration:
    """The configuration of the training, with `overrides` ("section.key=value").

    Raises:
        UserError: there is no such experiment, or an override changes `SECTIONS_FIXED_BY_TRAINING`.
    """
    refuse_untrained(experiment)
    configuration = read_configuration(experiment.configuration, overrides)
    refuse_other_settings(experiment, configuration, SECTIONS_FIXED_BY_TRAINING)
    return configuration
