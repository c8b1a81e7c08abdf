"""Early stopping: which epoch is the best, and when the training ends."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from lib.configuration.sections import TrainingSettings


@dataclass
class TrainingState:
    """The part of the state of a training that is not in the variables of Keras.

    Attributes:
        history: one row for each epoch, as in history.csv.
        best_epoch: the epoch, from 1, whose weights are stored as the best.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0

    @property
    def epochs_done(self) -> int:
        """The number of whole epochs."""
        return len(self.history)


def last_epoch_is_best(state: TrainingState, settings: TrainingSettings) -> bool:
    """Whether the last epoch is better than all epochs before it; always without validation."""
    if settings.validation == "none":
        return True
    name, sign = ("val_auc", 1) if settings.best_by == "auc" else ("val_loss", -1)
    values = [sign * row[name] for row in state.history]
    return values[-1] > max(values[:-1], default=-math.inf)


def has_ended(history: Sequence[dict[str, float]], settings: TrainingSettings) -> bool:
    """Whether a training with these rows of history.csv has ended.

    Rows without the measure of the validation are of other settings, with which the training had ended.
    """
    if history and settings.validation != "none" and f"val_{settings.best_by}" not in history[0]:
        return True
    state = TrainingState()
    for row in history:
        state.history.append(row)
        if last_epoch_is_best(state, settings):
            state.best_epoch = state.epochs_done
    return bool(reason_to_stop(state, settings))


def reason_to_stop(state: TrainingState, settings: TrainingSettings) -> str:
    """The reason to end the training now; "" if there is none."""
    if state.epochs_done >= settings.N_epochs:
        return f"N_epochs = {settings.N_epochs} reached"
    if state.epochs_done - state.best_epoch >= settings.patience:
        return f"stopped: no better epoch for {settings.patience} epochs"
    return ""
