"""Keras callbacks of a training: progress bar, end at a loss that is not finite, weights before averaging."""

import math
import sys
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from lib.configuration.sections import TrainingSettings
from lib.runtime.errors import UserError
from lib.training.early_stopping import TrainingState
from lib.training.training_patches import PatchBatches


class ProgressBar(keras.callbacks.Callback):
    """A bar over all epochs with the time left, and a line for each epoch; only lines without a terminal."""

    def __init__(self, settings: TrainingSettings, epochs_done: int) -> None:
        super().__init__()
        self._settings, self._batch_size = settings, settings.fixed_batch_size
        patches_an_epoch = settings.steps * self._batch_size
        self._bar = tqdm(
            total=settings.N_epochs * patches_an_epoch,
            initial=epochs_done * patches_an_epoch,
            unit="patch",
            unit_scale=True,
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
        )

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Move the bar."""
        self._bar.update(self._batch_size)
        self._bar.set_postfix(loss=f"{(logs or {}).get('loss', math.nan):.4f}", refresh=False)

    def print_epoch(self, state: TrainingState) -> None:
        """Print the line of the last epoch."""
        row = state.history[-1]
        epochs_left = self._settings.N_epochs - state.epochs_done
        left = tqdm.format_interval(epochs_left * np.median([r["seconds"] for r in state.history]))
        validation = ""
        if "val_loss" in row:
            best = " (best)" if state.best_epoch == row["epoch"] else ""
            validation = f"  validation: loss {row['val_loss']:.4f} AUC {row['val_auc']:.4f}{best}"
        # Exactly 0.5: every pair of pixels is a tie.
        constant = "; all probabilities are equal: lower learning_rate" if row["auc"] == 0.5 else ""
        self._bar.write(
            f"epoch {row['epoch']:>3}/{self._settings.N_epochs}  loss {row['loss']:.4f} "
            f"AUC {row['auc']:.4f}{validation}  "
            f"{row['seconds']:.0f} s, at most {left} left{constant}",
            file=sys.stdout,
        )
        sys.stdout.flush()

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()


class StopAtNonFiniteLoss(keras.callbacks.Callback):
    """End the training at the first step whose loss is NaN or infinite, and name the images of the batch."""

    def __init__(self, patches: PatchBatches, epoch: int, folder: Path) -> None:
        super().__init__()
        self._patches, self._epoch, self._folder = patches, epoch, folder

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        """Check the loss.

        Raises:
            UserError: it is not finite.
        """
        if not math.isfinite(logs["loss"]):  # the mean of this epoch's steps; it was finite before
            step = f"epoch {self._epoch}, step {batch + 1} of {len(self._patches)}"
            images = ", ".join(self._patches.image_names(batch))
            raise diverged(f"{step}: loss {logs['loss']:g} on patches of {images}", self._folder)


class UnaveragedWeights(keras.callbacks.Callback):
    """Keeps the weights of the end of the epoch; `fit` of Keras then replaces them by their average."""

    weights: list[np.ndarray]

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Copy the weights."""
        self.weights = self.model.get_weights()


def diverged(found: str, folder: Path) -> UserError:
    """The error for a loss that is not finite; `found` says where it was found."""
    return UserError(
        f"{found}: the training has diverged; lower [training settings] learning_rate. The weights of the "
        f"epochs before, if any, are in {folder}; start again with --fresh for another learning rate"
    )
