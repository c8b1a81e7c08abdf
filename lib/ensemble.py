"""Several trained networks as one: the mean of their probabilities."""

from collections.abc import Sequence
from dataclasses import replace

import keras

from lib.configuration.experiment_folder import Experiment, ensemble_name, refuse_other_settings
from lib.configuration.sections import by_validation
from lib.keras_network import experiment_configuration, read_keras_network
from lib.memory import HalvedBatches
from lib.operating_point import WINDOW
from lib.runtime.errors import UserError, raise_all
from lib.trained_network import TrainedNetwork

SHARED = ("preprocessing",)
"""Sections that all members of an ensemble must share."""


def averaged(members: Sequence[keras.Model]) -> keras.Model:
    """One network of the same input whose output is the mean of the members'."""
    if len(members) == 1:
        return members[0]
    image = keras.Input(members[0].input_shape[1:])
    # Members may be of one architecture, and no two parts of a model may have one name.
    named = [keras.Model(m.input, m.output, name=f"member{n}") for n, m in enumerate(members)]
    mean = keras.layers.Average(dtype="float32")([member(image) for member in named])
    return keras.Model(image, mean)


def read_keras_ensemble(
    experiments: Sequence[Experiment], overrides: Sequence[str] = ()
) -> TrainedNetwork:
    """Trained experiments as one network, which predicts by the settings that all of them share.

    Raises:
        UserError: as `read_keras_network`; names each setting of preprocessing and of the window by
            which the members differ; the threshold is not a number.
    """
    name = ensemble_name([experiment.name for experiment in experiments])
    configurations = [experiment_configuration(e, overrides) for e in experiments]
    first = configurations[0]
    if any(by_validation(c.testing_settings) for c in configurations):
        raise UserError(
            f"{name}: the networks' thresholds are not that of their mean; give numbers: "
            '--set "testing settings.threshold=0.5" --set "testing settings.min_area_px=0"'
        )
    for experiment in experiments[1:]:
        refuse_other_settings(experiment, first, SHARED)
    raise_all(
        [
            f"[testing settings] {key} = {getattr(c.testing_settings, key)} in {e.name}, "
            f"{getattr(first.testing_settings, key)} in {experiments[0].name}"
            for e, c in zip(experiments, configurations, strict=True)
            for key in ("threshold", "min_area_px", *WINDOW)
            if getattr(c.testing_settings, key) != getattr(first.testing_settings, key)
        ],
        f"{name}: the experiments predict in different ways; choose one with --set",
    )
    networks, models = zip(*(read_keras_network(e, overrides) for e in experiments), strict=True)
    return replace(
        networks[0],
        name=name,
        architecture=" + ".join(network.architecture for network in networks),
        weights_sha256=" ".join(network.weights_sha256 for network in networks),
        predict=HalvedBatches(averaged(models).predict_on_batch),
    )
