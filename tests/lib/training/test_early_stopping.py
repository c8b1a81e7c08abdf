import dataclasses

import pytest

from lib.configuration.reading import read_configuration
from lib.runtime.paths import DEFAULT_CONFIGURATION
from lib.training.early_stopping import TrainingState, has_ended, last_epoch_is_best, reason_to_stop

SETTINGS = dataclasses.replace(
    read_configuration(DEFAULT_CONFIGURATION).training_settings, N_epochs=9, patience=2
)


@pytest.mark.parametrize(
    ("best_by", "expected"), [("auc", [True, False, True, False]), ("loss", [True, True, False, False])]
)
def test_an_epoch_is_best_only_if_it_is_better_than_all_before(best_by, expected):
    settings = dataclasses.replace(SETTINGS, best_by=best_by)
    measures = [(0.7, 3), (0.6, 2), (0.8, 2), (0.8, 2)]
    history = [{"val_auc": auc, "val_loss": loss} for auc, loss in measures]
    found = [last_epoch_is_best(TrainingState(history[:n]), settings) for n in (1, 2, 3, 4)]
    assert found == expected


@pytest.mark.parametrize(
    ("epochs_done", "best_epoch", "reason"),
    [(0, 0, ""), (3, 2, ""), (4, 2, "stopped: no better epoch for 2 epochs"), (9, 9, "N_epochs = 9 reached")],
)
def test_a_training_ends_after_all_epochs_or_without_a_better_one(epochs_done, best_epoch, reason):
    assert reason_to_stop(TrainingState([{}] * epochs_done, best_epoch), SETTINGS) == reason


@pytest.mark.parametrize(
    ("values", "ended"), [((), False), ((0.5, 0.4), False), ((0.5, 0.4, 0.3), True), ((1, 2, 3, 4), True)]
)
def test_a_training_has_ended_without_a_better_epoch_or_with_the_last_one(values, ended):
    settings = read_configuration(DEFAULT_CONFIGURATION).training_settings
    settings = dataclasses.replace(settings, N_epochs=4, patience=2, best_by="auc", validation="images")
    assert has_ended([{"val_auc": value} for value in values], settings) == ended


def test_a_training_without_the_wanted_validation_counts_as_ended():
    """So that its weights are kept."""
    settings = read_configuration(DEFAULT_CONFIGURATION).training_settings
    assert has_ended([{"epoch": 1, "loss": 0.5, "auc": 0.7}], settings)
    assert not has_ended(
        [{"epoch": 1, "loss": 0.5, "auc": 0.7}], dataclasses.replace(settings, validation="none")
    )
