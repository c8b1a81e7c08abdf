"""Training: from prepared HDF5 files to weights, history and curves; goes on where it was cut off."""

import csv
import dataclasses
import io
import json
import math
import sys
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from lib.configuration.experiment_folder import (
    Experiment,
    refuse_other_settings,
    refuse_other_split,
)
from lib.configuration.reading import Configuration
from lib.configuration.sections import TrainingSettings
from lib.configuration.training_lock import training_lock
from lib.datasets.leakage import refuse_initial_weights
from lib.figures.charts import learning_curves
from lib.figures.mosaics import sample_patches
from lib.networks.batches import fastest_batch_size
from lib.networks.keras_model import (
    build_model,
    devices,
    has_gpu,
    record,
    save_weights,
    trained_model,
)
from lib.runtime.atomic_files import write_text, written_atomically
from lib.runtime.errors import UserError, is_out_of_memory
from lib.training.checkpoint import is_there, keep_previous, load_checkpoint, save_checkpoint
from lib.training.compiled_model import CompiledModel, compile_model, set_drop_block_rate
from lib.training.data_parallel import is_first_process
from lib.training.early_stopping import TrainingState, is_best, why_stop
from lib.training.losses_and_metrics import LOSSES, accuracy, auc_roc
from lib.training.patch_batches import PatchBatches
from lib.training.patch_sampler import TrainingImage
from lib.training.training_patches import (
    FixedPatches,
    epoch_patches,
    fixed_patches,
    patch_sampler,
    refuse_unprepared,
    training_images,
)

TRAINED_WITH = (
    "data paths",
    "data attributes",
    "preprocessing",
    "augmentation",
    "model",
    "training settings",
)
SAMPLE = 40
"""Patches in sample_input_imgs.png and sample_input_masks.png, as in retina-unet."""

SLOW_ON_A_CPU = 5_000_000
"""Parameters from which a user without a GPU is warned."""


def train(configuration: Configuration, *, fresh: bool = False) -> Experiment:
    """Train the configured network; call again after an interruption to go on.

    Args:
        configuration: what to train, on what, and where to.
        fresh: begin at the first epoch even where a checkpoint is.

    Returns:
        The experiment, whose folder holds what was asked for.

    Raises:
        UserError: data missing, another training in the folder, an earlier one of that name had other
            settings, the loss is not finite, memory is short, or nothing can be written.
    """
    experiment = Experiment.of(configuration)
    refuse_unprepared(configuration)
    with training_lock(experiment) if is_first_process() else nullcontext():
        if is_first_process():
            experiment.remove_unfinished()
        try:
            resuming = is_there(experiment.checkpoint) and not fresh
            print(_train(experiment, configuration, resuming=resuming))
        except Exception as error:
            if is_out_of_memory(error):
                raise _too_large(configuration, experiment.folder) from None
            raise
    return experiment


def _train(experiment: Experiment, configuration: Configuration, *, resuming: bool) -> str:
    """Train in the experiment's folder; says why it ended."""
    if resuming:
        refuse_other_settings(experiment, configuration, TRAINED_WITH)
        refuse_other_split(experiment, configuration)
    if configuration.training_settings.batch_size == "auto":
        configuration = _with_batch_size(configuration, experiment, resuming=resuming)
    settings = configuration.training_settings
    images = training_images(configuration)
    fixed = {part: fixed_patches(configuration, part, images[part]) for part in images}
    share = settings.truth_centred_share
    sampler = patch_sampler(configuration, images["train"], truth_centred_share=share)
    # What goes on has its own weights.
    begin = build_model if resuming else _initial_model
    model, state = begin(configuration), TrainingState()
    compiled = CompiledModel.of(model, configuration)
    if resuming:
        with compiled.scope():
            state = load_checkpoint(experiment.checkpoint, compiled.compiled)
    elif is_first_process():
        experiment.clear()
        record(experiment, configuration, model)
        _draw_samples(experiment, epoch_patches(configuration, images["train"], sampler, 0))
    if is_first_process():
        write_text(experiment.configuration, configuration.as_text())  # N_epochs may have changed
    _announce(experiment, model, state, settings)
    _announce_validation(images, settings)
    with closing(_ProgressBar(settings, state.epochs_done)) as bar:
        while not (why := why_stop(state, settings)):
            patches = epoch_patches(configuration, images["train"], sampler, state.epochs_done)
            row = {"epoch": state.epochs_done + 1}
            set_drop_block_rate(compiled.network, settings, state.epochs_done)
            callbacks = [bar, _StopAtNotFinite(patches, row["epoch"], experiment.folder)]
            row |= _train_epoch(compiled, patches, fixed, settings, callbacks)
            _refuse_not_finite(row, experiment.folder)
            state.history.append(row)
            if is_best(state, settings):
                state.best_epoch = state.epochs_done
            if is_first_process():
                _keep(experiment, compiled.compiled, model, state, settings.best_by)
            bar.epoch_end(state)
    return f"{why}; best epoch {state.best_epoch} by validation {settings.best_by}"


def _with_batch_size(
    configuration: Configuration, experiment: Experiment, *, resuming: bool
) -> Configuration:
    """`batch_size = auto` as a number: measured here, or when the training began."""
    if resuming:
        size = json.loads(experiment.versions.read_text(encoding="utf-8"))["batch_size"]
    else:
        size = fastest_batch_size(_one_step(configuration))
    print(f"batch_size = auto: {size} patches a step")
    settings = dataclasses.replace(configuration.training_settings, batch_size=size)
    return dataclasses.replace(configuration, training_settings=settings)


def _one_step(configuration: Configuration) -> Callable[[int], object]:
    """Trains a network of its own on so many empty patches."""
    settings, attributes = configuration.training_settings, configuration.data_attributes
    model = compile_model(build_model(configuration), dataclasses.replace(settings, batch_size=1))
    patch = (attributes.patch_height, attributes.patch_width)

    def compute(size: int) -> object:
        x, y = (np.zeros((size, *patch, channels), np.float32) for channels in (1, 2))
        return model.train_on_batch(x, y)

    return compute


def _initial_model(configuration: Configuration) -> keras.Model:
    settings = configuration.training_settings
    if settings.initial_weights == "none":
        return build_model(configuration)
    refuse_initial_weights(configuration)
    return trained_model(configuration, settings.initial_weights, settings.precision)


def _train_epoch(
    compiled: CompiledModel,
    patches: PatchBatches,
    fixed: dict[str, FixedPatches],
    settings: TrainingSettings,
    callbacks: list[keras.callbacks.Callback],
) -> dict[str, float]:
    """One pass over `patches`; returns the row of history.csv but for the epoch's number.

    Loss and accuracy of the training part are means over the epoch, while the network still learns; its
    AUC, and all of the validation part, are of the network as it is at the end.
    """
    started = time.monotonic()
    fitted, model = compiled.fit(patches, callbacks), compiled.model
    row = {name: fitted[name][0] for name in ("loss", "accuracy")}
    row["auc"] = _measure(model, fixed["train"], settings)["auc"]
    validation = _measure(model, fixed["validation"], settings)
    row |= {f"val_{name}": value for name, value in validation.items()}
    return row | {"seconds": round(time.monotonic() - started, 2)}


def _measure(
    model: keras.Model, patches: FixedPatches, settings: TrainingSettings
) -> dict[str, float]:
    """Loss, accuracy, and exact AUC-ROC over the pixels in the field of view."""
    probability = model.predict(patches.x, batch_size=settings.batch_size, verbose=0)
    measures = {"loss": LOSSES[settings.loss], "accuracy": accuracy}
    row = {name: float(measure(patches.y, probability)) for name, measure in measures.items()}
    truth = patches.y[..., 0][patches.inside]
    scores = probability[..., 0][patches.inside]
    row["auc"] = auc_roc(scores, truth > 0) if np.isfinite(scores).all() else math.nan
    return row


def _refuse_not_finite(row: dict[str, float], folder: Path) -> None:
    if not all(math.isfinite(value) for value in row.values()):
        losses = f"loss {row['loss']:g}, validation loss {row['val_loss']:g}"
        raise _diverged(f"epoch {row['epoch']}: {losses}", folder)


def _diverged(where: str, folder: Path) -> UserError:
    return UserError(
        f"{where}: the training has diverged; lower [training settings] learning_rate. The weights of "
        f"the epochs before, if any, are kept in {folder}; with another rate start anew with --fresh"
    )


def _too_large(configuration: Configuration, folder: Path) -> UserError:
    size = configuration.training_settings.batch_size
    return UserError(
        f"not enough memory on {', '.join(devices())} at [training settings] batch_size = {size}: end other "
        "programs that use it and start again, to go on after the last whole epoch; or lower batch_size and "
        f"start anew with --fresh. What the epochs before left is kept in {folder}"
    )


def _keep(
    experiment: Experiment,
    compiled: keras.Model,
    model: keras.Model,
    state: TrainingState,
    best_by: str,
) -> None:
    """Leave an epoch's results, all or none: they are renamed together when all are written.

    The checkpoint comes last, as the promise that all else is there.
    """
    folder = experiment.folder
    files = [folder / "history.csv", folder / "learning_curves.png", experiment.weights("last")]
    if state.best_epoch == state.epochs_done:
        files.append(experiment.weights("best"))
    with written_atomically(*files, experiment.checkpoint) as (table, curves, *weights, checkpoint):
        write_text(table, _as_csv(state.history))
        learning_curves(curves, state.history, best_by)
        for file in weights:
            save_weights(model, file)
        save_checkpoint(checkpoint, compiled, state)
        keep_previous(experiment.checkpoint)


def _as_csv(history: list[dict[str, float]]) -> str:
    table = io.StringIO()
    writer = csv.DictWriter(table, history[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return table.getvalue()


def _draw_samples(experiment: Experiment, patches: PatchBatches) -> None:
    batches = [patches[i] for i in range(min(len(patches), -(-SAMPLE // patches.batch_size)))]
    for number, name in enumerate(("sample_input_imgs", "sample_input_masks")):
        drawn = np.concatenate([batch[number][..., 0] for batch in batches])[:SAMPLE]
        sample_patches(experiment.folder / f"{name}.png", drawn)


def _announce(
    experiment: Experiment, model: keras.Model, state: TrainingState, settings: TrainingSettings
) -> None:
    device = f"{keras.backend.backend()} on {', '.join(devices())}"
    print(f"{experiment.name}: {model.count_params():,} parameters; {device}; {settings.precision}")
    if model.count_params() > SLOW_ON_A_CPU and not has_gpu():
        print(
            "a network of this size takes weeks on a CPU; configurations/ holds smaller ones, *_cpu.txt"
        )
    if state.history and not why_stop(state, settings):
        print(f"going on after epoch {state.epochs_done}; --fresh would start anew")


def _announce_validation(
    images: dict[str, list[TrainingImage]], settings: TrainingSettings
) -> None:
    """Say which images validate where retina-unet's rule chooses them, and whether they train too."""
    if settings.validation == "images":
        return
    validating = {image.name for image in images["validation"]}
    both = validating & {image.name for image in images["train"]}
    leaky = f"LEAKY: {', '.join(both)} trains as well" if both else "none of them trains"
    print(f"validation = patches, as in retina-unet: of {', '.join(sorted(validating))}; {leaky}")


class _StopAtNotFinite(keras.callbacks.Callback):
    """Ends the training at the first step whose loss is NaN or infinite, and names its images."""

    def __init__(self, patches: PatchBatches, epoch: int, folder: Path) -> None:
        super().__init__()
        self._patches, self._epoch, self._folder = patches, epoch, folder

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        if not math.isfinite(logs["loss"]):  # the mean over the epoch so far, finite until now
            where = f"epoch {self._epoch}, step {batch + 1} of {len(self._patches)}"
            images = ", ".join(self._patches.names(batch))
            raise _diverged(f"{where}: loss {logs['loss']:g} on patches of {images}", self._folder)


class _ProgressBar(keras.callbacks.Callback):
    """One bar over all epochs, with time left, and one line an epoch; without a terminal the lines alone."""

    def __init__(self, settings: TrainingSettings, epochs_done: int) -> None:
        super().__init__()
        self._settings = settings
        self._bar = tqdm(
            total=settings.N_epochs * settings.steps * settings.batch_size,
            initial=epochs_done * settings.steps * settings.batch_size,
            unit="patch",
            unit_scale=True,
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
        )

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._bar.update(self._settings.batch_size)
        self._bar.set_postfix(loss=f"{(logs or {}).get('loss', math.nan):.4f}", refresh=False)

    def epoch_end(self, state: TrainingState) -> None:
        """Print the line of the epoch just ended."""
        row = state.history[-1]
        done = self._settings.N_epochs - state.epochs_done
        left = tqdm.format_interval(done * np.median([r["seconds"] for r in state.history]))
        self._bar.write(
            f"epoch {row['epoch']:>3}/{self._settings.N_epochs}  loss {row['loss']:.4f} "
            f"AUC {row['auc']:.4f}  validation: loss {row['val_loss']:.4f} AUC {row['val_auc']:.4f}"
            f"{' (best)' if state.best_epoch == row['epoch'] else ''}  "
            f"{row['seconds']:.0f} s, at most {left} left",
            file=sys.stdout,
        )
        sys.stdout.flush()

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()
