"""One run of a plan, trained and tested; this module imports Keras."""

import keras

from lib.configuration.reading import Configuration
from lib.evaluation.test_run import test
from lib.training.train import train


def train_and_test(configuration: Configuration) -> None:
    """Train, or continue the training, and test, independently of the run before."""
    keras.backend.clear_session()
    train(configuration)
    test(configuration)
