"""Training: from prepared HDF5 files to weights, history and curves; goes on where it was cut off."""

import csv
import io
import math
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import keras
import numpy as np
from tqdm import tqdm

from lib.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from lib.configuration import Configuration, TrainingSettings
from lib.evaluation import auc_roc
from lib.experiment import (
    Experiment,
    build_model,
    devices,
    has_gpu,
    record,
    refuse_other_settings,
    refuse_other_split,
    save_weights,
)
from lib.figures import learning_curves
from lib.files import write_text
from lib.hdf5 import read_part
from lib.losses import LOSSES, accuracy, with_rough_map
from lib.patch_sequence import PatchSequence
from lib.patches import PatchSampler, TrainingImage, cut
from lib.pictures import sample_patches
from lib.preprocessing import network_input, preprocess
from lib.user_errors import UserError
from models.drop_block import DropBlock
from models.ldpc_net import rough_map

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

# What a stream of random numbers is for: seeds are [seed, purpose, epoch].
TRAINING, AUGMENTATION, FIXED = range(3)


@dataclass(frozen=True)
class FixedPatches:
    """Patches on which every epoch is measured.

    Attributes:
        x: (N, h, w, 1) float32.
        y: (N, h, w, 2) float32, truth and weight in the loss.
        inside: (N, h, w) bool, the field of view.
    """

    x: np.ndarray
    y: np.ndarray
    inside: np.ndarray


def train(configuration: Configuration, *, fresh: bool = False) -> Experiment:
    """Train the configured network; call again after an interruption to go on.

    Args:
        configuration: what to train, on what, and where to.
        fresh: begin at the first epoch even where a checkpoint is.

    Returns:
        The experiment, whose folder holds what was asked for.

    Raises:
        UserError: data missing, or an earlier training of that name had other settings.
    """
    settings = configuration.training_settings
    experiment = Experiment.of(configuration)
    _refuse_unprepared(configuration)
    resuming = experiment.checkpoint.is_file() and not fresh
    if resuming:
        refuse_other_settings(experiment, configuration, TRAINED_WITH)
        refuse_other_split(experiment, configuration)
    images = _images(configuration)
    fixed = {part: _fixed_patches(configuration, part, images[part]) for part in images}
    share = settings.truth_centred_share
    sampler = _sampler(configuration, images["train"], truth_centred_share=share)
    model = build_model(configuration)
    learner = _learner(model, settings)
    state = load_checkpoint(experiment.checkpoint, learner) if resuming else TrainingState()
    if not resuming:
        experiment.clear()
        record(experiment, configuration, model)
        _draw_samples(experiment, _epoch_patches(configuration, images["train"], sampler, 0))
    write_text(experiment.configuration, configuration.as_text())  # N_epochs may have changed
    _announce(experiment, model, state, settings)
    _announce_validation(images, settings)
    with closing(_ProgressBar(settings, state.epochs_done)) as bar:
        while not (why := _why_stop(state, settings)):
            patches = _epoch_patches(configuration, images["train"], sampler, state.epochs_done)
            row = {"epoch": state.epochs_done + 1}
            _grow_dropout(model, settings, state.epochs_done)
            row |= _train_epoch(learner, model, patches, fixed, settings, bar)
            _refuse_not_finite(row, experiment)
            state.history.append(row)
            if _is_best(state, settings):
                state.best_epoch = state.epochs_done
                save_weights(model, experiment.weights("best"))
            _keep(experiment, learner, model, state, settings.best_by)
            bar.epoch_end(state)
    print(f"{why}; best epoch {state.best_epoch} by validation {settings.best_by}")
    return experiment


def _train_epoch(
    learner: keras.Model,
    model: keras.Model,
    patches: PatchSequence,
    fixed: dict[str, FixedPatches],
    settings: TrainingSettings,
    bar: "_ProgressBar",
) -> dict[str, float]:
    """One pass over `patches`; returns the row of history.csv but for the epoch's number.

    Loss and accuracy of the training part are means over the epoch, while the network still learns; its
    AUC, and all of the validation part, are of the network as it is at the end.
    """
    started = time.monotonic()
    # Keras would shuffle the batches from a random state of its own, which no checkpoint holds.
    fitted = learner.fit(patches, shuffle=False, verbose=0, callbacks=[bar]).history
    row = {name: fitted[name][0] for name in ("loss", "accuracy")}
    row["auc"] = _measure(model, fixed["train"], settings)["auc"]
    validation = _measure(model, fixed["validation"], settings)
    row |= {f"val_{name}": value for name, value in validation.items()}
    return row | {"seconds": round(time.monotonic() - started, 2)}


def _refuse_unprepared(configuration: Configuration) -> None:
    paths = configuration.data_paths
    split = paths.path_local / "split.json"
    if not split.is_file():
        raise UserError(
            f"{split}: no such file; run prepare_datasets_FFA.py (or prepare_datasets_vessels.py) first"
        )
    needed = (
        ("train", "validation")
        if configuration.training_settings.validation == "images"
        else ("train",)
    )
    for part in needed:
        if not paths.hdf5(part)[0].is_file():
            raise UserError(
                f"{paths.path_local} holds no {part} part, which training needs: prepare again with "
                "another [preparation] split_ratio"
            )


def _images(configuration: Configuration) -> dict[str, list[TrainingImage]]:
    """What trains and what validates.

    `validation = patches` is retina-unet's: patches lie in the order of their images, and the last tenth
    of them validates (Keras' `validation_split`). So the last tenth of the images validates, and an
    image that the tenth cuts in two does both.
    """
    paths = configuration.data_paths
    if configuration.training_settings.validation == "images":
        return {part: _read_images(configuration, part) for part in ("train", "validation")}
    pooled = [
        image
        for part in ("train", "validation")
        if paths.hdf5(part)[0].is_file()
        for image in _read_images(configuration, part)
    ]
    first, last = images_of_the_last_tenth(len(pooled))
    return {"train": pooled[:last], "validation": pooled[first:]}


def images_of_the_last_tenth(number: int) -> tuple[int, int]:
    """Of so many images in order: the first that validates, and the first that does not train."""
    return number - math.ceil(number / 10), number - math.floor(number / 10)


def _read_images(configuration: Configuration, part: str) -> list[TrainingImage]:
    attributes = configuration.data_attributes
    return [
        TrainingImage(
            image.name,
            preprocess(image.original, image.field_of_view, configuration.preprocessing),
            image.truth,
            image.field_of_view,
        ).at_least(attributes.patch_height, attributes.patch_width)
        for image in read_part(configuration.data_paths.hdf5(part))
    ]


def _learner(model: keras.Model, settings: TrainingSettings) -> keras.Model:
    """The model, compiled; where its rough map is taught too, one of the same weights with both maps."""
    loss, weight = LOSSES[settings.loss], settings.rough_map_loss_weight
    learner = model
    if weight:
        try:
            rough = rough_map(model)
        except ValueError:
            raise UserError(
                f"[training settings] rough_map_loss_weight = {weight:g}: {model.name} has no rough map; "
                "expected 0, or a network ldpc_*"
            ) from None
        loss = with_rough_map(loss, weight)
        learner = keras.Model(model.input, keras.layers.Concatenate()([model.output, rough]))
    _compile(learner, settings, loss)
    return learner


def _grow_dropout(model: keras.Model, settings: TrainingSettings, epochs_done: int) -> None:
    """Set the rate of DropBlock: from 0 in the first epoch to the full one after `dropout_growth_epochs`."""
    growth = settings.dropout_growth_epochs
    share = min(1.0, epochs_done / growth) if growth else 1.0
    dropping = [layer for layer in model.layers if isinstance(layer, DropBlock)]
    if growth and not dropping:
        raise UserError(
            f"[training settings] dropout_growth_epochs = {growth}: {model.name} has no DropBlock; "
            "expected 0, or ldpc_net or ldpc_sd"
        )
    for layer in dropping:
        layer.rate_now.assign(layer.rate * share)


def _compile(model: keras.Model, settings: TrainingSettings, loss: Callable) -> None:
    rate = settings.learning_rate
    if settings.learning_rate_schedule == "cosine":
        steps = -(-settings.N_subimgs // settings.batch_size) * settings.N_epochs
        rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    optimizer = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}[settings.optimizer]
    # XLA speeds training up on a GPU and slows it down by 1.2 to 1.8 on a CPU; JAX is always compiled.
    xla = has_gpu() if keras.backend.backend() == "tensorflow" else "auto"
    model.compile(optimizer(rate), loss, metrics=[accuracy], jit_compile=xla)


def _sampler(
    configuration: Configuration, images: list[TrainingImage], *, truth_centred_share: float
) -> PatchSampler:
    attributes = configuration.data_attributes
    return PatchSampler(
        images,
        attributes.patch_height,
        attributes.patch_width,
        inside_FOV=configuration.training_settings.inside_FOV,
        truth_centred_share=truth_centred_share,
    )


def _epoch_patches(
    configuration: Configuration, images: list[TrainingImage], sampler: PatchSampler, epoch: int
) -> PatchSequence:
    """The patches of one epoch: a function of seed and epoch, so that a resumed run has the same."""
    settings, attributes = configuration.training_settings, configuration.data_attributes
    generator = np.random.default_rng([settings.seed, TRAINING, epoch])
    return PatchSequence(
        images,
        sampler.draw(settings.N_subimgs, generator),
        (attributes.patch_height, attributes.patch_width),
        settings.batch_size,
        loss_in_FOV=settings.loss_in_FOV,
        augmentation=configuration.augmentation,
        seed=(settings.seed, AUGMENTATION, epoch),
    )


def _fixed_patches(
    configuration: Configuration, part: str, images: list[TrainingImage]
) -> FixedPatches:
    """Drawn alike from both parts: evenly over the images, not augmented, not favouring the truth."""
    settings, attributes = configuration.training_settings, configuration.data_attributes
    patch = (attributes.patch_height, attributes.patch_width)
    number = settings.N_subimgs_validation
    generator = np.random.default_rng([settings.seed, FIXED])
    corners = _sampler(configuration, images, truth_centred_share=0).draw(number, generator)
    levels, truth, field_of_view = (
        cut([getattr(i, name) for i in images], corners, *patch)
        for name in ("levels", "truth", "field_of_view")
    )
    inside = field_of_view > 0
    if not inside.any() or np.ptp(truth[inside]) == 0:
        raise UserError(
            f"the {number} {part} patches show {attributes.structure} everywhere or nowhere in the field "
            "of view, so that no AUC is defined: raise [training settings] N_subimgs_validation, or look "
            "at prepared.png"
        )
    weight = inside if settings.loss_in_FOV else np.ones_like(inside)
    y = np.stack([truth, weight], axis=-1).astype(np.float32)
    return FixedPatches(network_input(levels)[..., None], y, inside)


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


def _refuse_not_finite(row: dict[str, float], experiment: Experiment) -> None:
    if not all(math.isfinite(value) for value in row.values()):
        raise UserError(
            f"epoch {row['epoch']}: loss {row['loss']:g}, validation loss {row['val_loss']:g}: the "
            "training has diverged; lower [training settings] learning_rate. The weights of the epochs "
            f"before, if any, are kept in {experiment.folder}; with another rate start anew with --fresh"
        )


def _is_best(state: TrainingState, settings: TrainingSettings) -> bool:
    """Whether the last epoch is better than all before it; the first of equals is kept."""
    name, sign = ("val_auc", 1) if settings.best_by == "auc" else ("val_loss", -1)
    values = [sign * row[name] for row in state.history]
    return values[-1] > max(values[:-1], default=-math.inf)


def _why_stop(state: TrainingState, settings: TrainingSettings) -> str:
    """Why no further epoch is wanted, or nothing."""
    if state.epochs_done >= settings.N_epochs:
        return f"all {settings.N_epochs} epochs done"
    if state.epochs_done - state.best_epoch >= settings.patience:
        return f"stopped: no better epoch for {settings.patience} epochs"
    return ""


def _keep(
    experiment: Experiment,
    learner: keras.Model,
    model: keras.Model,
    state: TrainingState,
    best_by: str,
) -> None:
    """Leave an epoch's results; the checkpoint comes last, as the promise that all else is there."""
    save_weights(model, experiment.weights("last"))
    table = io.StringIO()
    writer = csv.DictWriter(table, state.history[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(state.history)
    write_text(experiment.folder / "history.csv", table.getvalue())
    learning_curves(experiment.folder / "learning_curves.png", state.history, best_by)
    save_checkpoint(experiment.checkpoint, learner, state)


def _draw_samples(experiment: Experiment, patches: PatchSequence) -> None:
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
    if state.history and not _why_stop(state, settings):
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


class _ProgressBar(keras.callbacks.Callback):
    """One bar over all epochs, with time left, and one line an epoch; without a terminal the lines alone."""

    def __init__(self, settings: TrainingSettings, epochs_done: int) -> None:
        super().__init__()
        self._settings = settings
        self._bar = tqdm(
            total=settings.N_epochs * settings.N_subimgs,
            initial=epochs_done * settings.N_subimgs,
            unit="patch",
            unit_scale=True,
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
        )

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        size, number = self._settings.batch_size, self._settings.N_subimgs
        self._bar.update(min(size, number - batch * size))
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
