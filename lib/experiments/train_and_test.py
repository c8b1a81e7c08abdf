"""One run of a plan, trained and tested; this module imports Keras."""

import keras

from lib.configuration.experiment_folder import Experiment, refuse_other_settings, refuse_other_split
from lib.configuration.reading import Configuration
from lib.evaluation.test_run import test
from lib.runtime.atomic_files import write_text
from lib.runtime.errors import UserError
from lib.training.early_stopping import has_ended
from lib.training.train import SECTIONS_FIXED_DURING_TRAINING, train


def train_and_test(configuration: Configuration) -> None:
    """Train, or continue the training, and test, independently of the run before.

    A training that has ended is only tested: it needs no checkpoint.
    """
    keras.backend.clear_session()
    experiment = Experiment.of(configuration)
    if history := experiment.history():
        refuse_other_settings(experiment, configuration, SECTIONS_FIXED_DURING_TRAINING)
        _refuse_longer_training(experiment, len(history), configuration.training_settings.N_epochs)
    if history and has_ended(history, configuration.training_settings):
        refuse_other_split(experiment, configuration)
        write_text(experiment.configuration, configuration.as_text())  # settings of the test may have changed
    else:
        train(configuration)
    test(configuration)


def _refuse_longer_training(experiment: Experiment, epochs: int, most: int) -> None:
    if epochs > most:
        raise UserError(
            f"{experiment.folder}: trained for {epochs} epochs, but [training settings] N_epochs = {most}; "
            "restore N_epochs, or choose another [experiments] name"
        )
