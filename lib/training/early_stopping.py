"""Which epoch is the best, and when no further one is wanted."""

import math
from dataclasses import dataclass, field

from lib.configuration.sections import TrainingSettings


@dataclass
class TrainingState:
    """What a resumed training needs beside the variables.

    Attributes:
        history: one row an epoch, as in history.csv.
        best_epoch: the number (from 1) of the epoch whose weights are kept as best.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0

    @property
    def epochs_done(self) -> int:
        """The number of whole epochs behind."""
        return len(self.history)


def is_best(state: TrainingState, settings: TrainingSettings) -> bool:
    """Whether the last epoch is better than all before it; the first of equals is kept."""
    name, sign = ("val_auc", 1) if settings.best_by == "auc" else ("val_loss", -1)
    values = [sign * row[name] for row in state.history]
    return values[-1] > max(values[:-1], default=-math.inf)


def why_stop(state: TrainingState, settings: TrainingSettings) -> str:
    """Why no further epoch is wanted, or nothing."""
    if state.epochs_done >= settings.N_epochs:
        return f"all {settings.N_epochs} epochs done"
    if state.epochs_done - state.best_epoch >= settings.patience:
        return f"stopped: no better epoch for {settings.patience} epochs"
    return ""
