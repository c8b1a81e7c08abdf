"""Training: from prepared data to weights, history and learning curves; continues after an interruption."""

import csv
import dataclasses
import math
import time
from contextlib import closing, nullcontext
from pathlib import Path

import keras
import numpy as np

from lib.configuration.experiment_folder import Experiment, refuse_other_settings, refuse_other_split
from lib.configuration.folder_lock import results_lock, training_lock
from lib.configuration.reading import Configuration, read_configuration
from lib.configuration.sections import TrainingSettings
from lib.datasets.leakage import keep_initial_split, refuse_initial_weights
from lib.datasets.patient_split import comparable_name
from lib.figures.charts import learning_curves
from lib.figures.mosaics import sample_patches
from lib.networks.batches import fastest_batch_size
from lib.networks.keras_model import (
    build_model,
    devices,
    has_gpu,
    load_imagenet_encoder,
    save_weights,
    trained_model,
    write_experiment_record,
)
from lib.runtime.atomic_files import write_text, written_atomically
from lib.runtime.errors import UserError, is_out_of_memory
from lib.training.callbacks import ProgressBar, StopAtNonFiniteLoss, diverged
from lib.training.checkpoint import (
    checkpoint_exists,
    keep_previous_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from lib.training.compiled_model import TrainingModels, set_drop_block_rate, training_step
from lib.training.data_parallel import is_first_process
from lib.training.early_stopping import TrainingState, has_ended, last_epoch_is_best, reason_to_stop
from lib.training.losses_and_metrics import LOSSES, accuracy, auc_roc
from lib.training.patch_sampler import PatchSampler, TrainingImage
from lib.training.training_patches import (
    FixedPatches,
    PatchBatches,
    changed_preparation,
    fixed_patches,
    patch_sampler,
    refuse_unprepared,
    training_images,
)

SECTIONS_FIXED_DURING_TRAINING = (
    "data paths",
    "data attributes",
    "preprocessing",
    "augmentation",
    "model",
    "training settings",
)

SAMPLE_PATCHES = 40
"""Patches in sample_input_imgs.png and sample_input_masks.png, as in retina-unet."""

SLOW_ON_A_CPU = 5_000_000
"""A user without a GPU gets a warning if the network has more parameters."""


def train(configuration: Configuration, *, fresh: bool = False) -> Experiment:
    """Train the configured network; after an interruption a second call continues the training.

    Args:
        configuration: all settings.
        fresh: start with the first epoch, even if there is a checkpoint.

    Returns:
        The experiment, whose folder has weights, history, learning curves and a record.

    Raises:
        UserError: data are missing, another training uses the folder, an earlier training of that name had
            other settings, the loss is not finite, memory runs out, or a file cannot be written.
    """
    experiment = Experiment.of(configuration)
    refuse_unprepared(configuration)
    with training_lock(experiment) if is_first_process() else nullcontext():
        if is_first_process():
            experiment.remove_unfinished()
        try:
            resuming = checkpoint_exists(experiment.checkpoint) and not fresh
            if not (resuming or fresh):
                _refuse_to_replace_weights(experiment, configuration.training_settings)
            print(_train(experiment, configuration, resuming=resuming))
        except Exception as error:
            if is_out_of_memory(error):
                raise _too_large(configuration, experiment.folder) from None
            raise
    return experiment


@dataclasses.dataclass(frozen=True)
class _TrainingData:
    images: dict[str, list[TrainingImage]]
    fixed: dict[str, FixedPatches]
    sampler: PatchSampler

    @classmethod
    def of(cls, configuration: Configuration) -> "_TrainingData":
        images = training_images(configuration)
        fixed = {part: fixed_patches(configuration, part, images[part]) for part in images}
        share = configuration.training_settings.truth_centred_share
        sampler = patch_sampler(configuration, images["train"], truth_centred_share=share)
        return cls(images, fixed, sampler)

    def of_epoch(self, configuration: Configuration, epoch: int) -> PatchBatches:
        return PatchBatches(configuration, self.images["train"], self.sampler, epoch)


def _train(experiment: Experiment, configuration: Configuration, *, resuming: bool) -> str:
    """Start or resume the training; return a message that says why it ended."""
    if resuming:
        refuse_other_settings(experiment, configuration, SECTIONS_FIXED_DURING_TRAINING)
        refuse_other_split(experiment, configuration)
        _refuse_other_auxiliary_truth(experiment, configuration)
    configuration = _with_batch_size(configuration, experiment, resuming=resuming)
    settings = configuration.training_settings
    data = _TrainingData.of(configuration)
    # TensorFlow adds gradients in an order that depends on the names of layers: begin their numbers again.
    keras.backend.clear_session()
    # A resumed training takes the weights from its checkpoint.
    model = build_model(configuration) if resuming else _initial_model(configuration)
    keras_models, state = TrainingModels.of(model, configuration), TrainingState()
    set_drop_block_rate(keras_models.trained, settings, 0)  # refuses a wrong setting before files are removed
    if resuming:
        with keras_models.scope():
            state = load_checkpoint(experiment.checkpoint, keras_models.compiled)
    elif is_first_process():
        _clear(experiment)
        write_experiment_record(experiment, configuration, model)
        keep_initial_split(experiment, configuration)
        _draw_sample_patches(experiment, data.of_epoch(configuration, 0))
    if is_first_process():
        write_text(experiment.configuration, configuration.as_text())  # N_epochs may have changed
    _print_start(experiment, model, state, settings)
    for changed in changed_preparation(configuration).values():
        print(f"warning: {changed}: prepare again, or restore it")
    _print_validation_images(data.images, settings)
    _print_negatives(data.images["train"], settings)
    return _train_epochs(experiment, configuration, data, keras_models, state)


def _clear(experiment: Experiment) -> None:
    """Remove the files of an earlier training, unless a test writes into its folder.

    Raises:
        FolderLocked: a test is running.
    """
    for results in experiment.folder.glob("on_*/"):  # tests on other data sets
        with results_lock(results):
            pass
    with results_lock(experiment.folder):
        experiment.clear()


def _refuse_to_replace_weights(experiment: Experiment, settings: TrainingSettings) -> None:
    """Refuse to begin a training where weights are: imported or copied, or of a training without checkpoint.

    A kill in the first epoch may leave its history and weights without a checkpoint: that epoch is repeated.
    """
    history = experiment.history()
    was_killed = len(history) == 1 and not has_ended(history, settings)
    is_valuable = experiment.source.is_file() or not was_killed
    for which in ("best", "last") if is_valuable else ():
        if experiment.weights(which).is_file():
            raise UserError(
                f"{experiment.weights(which)} exists, but no checkpoint to continue from; choose another "
                "[experiment name] name, or replace the experiment with --fresh"
            )


def _refuse_other_auxiliary_truth(experiment: Experiment, configuration: Configuration) -> None:
    """The split does not say which labels the auxiliary truth has."""
    now = configuration.preparation.auxiliary_labels
    before = read_configuration(experiment.configuration).preparation.auxiliary_labels
    if configuration.training_settings.auxiliary_loss_weight and now != before:
        raise UserError(
            f"[preparation] auxiliary_labels = {' '.join(now)}: {experiment.folder} was trained with "
            f"{' '.join(before)}; restore it and prepare again, choose another [experiment name] name, or "
            "start again with run_training.py --fresh"
        )


def _with_batch_size(
    configuration: Configuration, experiment: Experiment, *, resuming: bool
) -> Configuration:
    """The configuration with a number instead of `batch_size = auto`: measured when the training began."""
    settings = configuration.training_settings
    if settings.batch_size != "auto":
        return configuration
    if resuming:
        size = experiment.training_record()["batch_size"]
    else:
        size = fastest_batch_size(training_step(configuration))
    print(f"batch_size = auto: {size} patches a step")
    settings = dataclasses.replace(settings, batch_size=size)
    return dataclasses.replace(configuration, training_settings=settings)


def _initial_model(configuration: Configuration) -> keras.Model:
    settings = configuration.training_settings
    if settings.initial_weights == "none":
        model = build_model(configuration)
        if configuration.model.encoder_weights == "imagenet":
            load_imagenet_encoder(model)
        return model
    if settings.initial_weights.resolve().parent == configuration.experiment_name.folder.resolve():
        raise UserError(
            f"[training settings] initial_weights = {settings.initial_weights}: is in the folder of this "
            "experiment, whose files a new training replaces; choose another [experiment name] name"
        )
    refuse_initial_weights(configuration, validation=settings.validation == "images")
    return trained_model(configuration, settings.initial_weights, settings.precision)


def _train_epochs(
    experiment: Experiment,
    configuration: Configuration,
    data: _TrainingData,
    keras_models: TrainingModels,
    state: TrainingState,
) -> str:
    """Train until there is a reason to stop; return a message with the reason."""
    settings = configuration.training_settings
    with closing(ProgressBar(settings, state.epochs_done)) as bar:
        while not (reason := reason_to_stop(state, settings)):
            patches, epoch = data.of_epoch(configuration, state.epochs_done), state.epochs_done + 1
            set_drop_block_rate(keras_models.trained, settings, state.epochs_done)
            callbacks = [bar, StopAtNonFiniteLoss(patches, epoch, experiment.folder)]
            measures = _train_epoch(keras_models, patches, data.fixed, settings, callbacks)
            row = {"epoch": epoch, **measures}
            _refuse_non_finite(row, experiment.folder)
            state.history.append(row)
            if last_epoch_is_best(state, settings):
                state.best_epoch = state.epochs_done
            if is_first_process():
                _write_epoch(experiment, keras_models, state, settings.best_by)
            bar.print_epoch(state)
    if settings.validation == "none":
        return f"{reason}; no validation: the last epoch counts as the best"
    return f"{reason}; best epoch {state.best_epoch} by validation {settings.best_by}"


def _train_epoch(
    keras_models: TrainingModels,
    patches: PatchBatches,
    fixed: dict[str, FixedPatches],
    settings: TrainingSettings,
    callbacks: list[keras.callbacks.Callback],
) -> dict[str, float]:
    """Train on `patches` once; return the row of history.csv without the number of the epoch.

    Loss and accuracy of the training part are means over the epoch, during which the weights change. Its AUC
    and all measures of the validation part belong to the weights at the end of the epoch, which are averages
    if `weight_average` is not 0.
    """
    started = time.monotonic()
    means = keras_models.fit(patches, callbacks)
    row = {name: means[name][0] for name in ("loss", "accuracy")}
    row["auc"] = _measure(keras_models.saved, fixed["train"], settings)["auc"]
    if "validation" in fixed:
        validation = _measure(keras_models.saved, fixed["validation"], settings)
        row |= {f"val_{name}": value for name, value in validation.items()}
    return row | {"seconds": round(time.monotonic() - started, 2)}


def _measure(model: keras.Model, patches: FixedPatches, settings: TrainingSettings) -> dict[str, float]:
    """Loss, accuracy, and exact AUC-ROC over the pixels in the field of view."""
    probability = model.predict(patches.x, batch_size=settings.batch_size, verbose=0)
    measures = {"loss": LOSSES[settings.loss], "accuracy": accuracy}
    row = {name: float(measure(patches.y, probability)) for name, measure in measures.items()}
    truth = patches.y[..., 0][patches.inside]
    scores = probability[..., 0][patches.inside]
    row["auc"] = auc_roc(scores, truth > 0) if np.isfinite(scores).all() else math.nan
    return row


def _refuse_non_finite(row: dict[str, float], folder: Path) -> None:
    if not all(math.isfinite(value) for value in row.values()):
        losses = [f"{name} {row[name]:g}" for name in ("loss", "val_loss") if name in row]
        raise diverged(f"epoch {row['epoch']}: {', '.join(losses)}", folder)


def _write_epoch(
    experiment: Experiment, keras_models: TrainingModels, state: TrainingState, best_by: str
) -> None:
    """Write all files of an epoch, or none: they get their names when all are complete.

    The checkpoint is renamed last: if it is there, the other files are there too.
    """
    curves = experiment.folder / "learning_curves.png"
    files = [experiment.history_file, curves, experiment.weights("last")]
    if state.best_epoch == state.epochs_done:
        files.append(experiment.weights("best"))
    with written_atomically(*files, experiment.checkpoint) as (table, picture, *weights, checkpoint):
        with table.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, state.history[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(state.history)
        learning_curves(picture, state.history, best_by)
        for file in weights:
            save_weights(keras_models.saved, file)
        save_checkpoint(checkpoint, keras_models.compiled, state)
        keep_previous_checkpoint(experiment.checkpoint)


def _draw_sample_patches(experiment: Experiment, patches: PatchBatches) -> None:
    number = min(len(patches), math.ceil(SAMPLE_PATCHES / patches.batch_size))
    batches = [patches[i] for i in range(number)]
    images, masks = (np.concatenate(arrays)[:SAMPLE_PATCHES] for arrays in zip(*batches, strict=True))
    side_by_side = np.concatenate(np.moveaxis(images, -1, 0), axis=2)  # the channels
    for name, shown in (("sample_input_imgs", side_by_side), ("sample_input_masks", masks[..., 0])):
        sample_patches(experiment.folder / f"{name}.png", shown)


def _print_start(
    experiment: Experiment, model: keras.Model, state: TrainingState, settings: TrainingSettings
) -> None:
    device = f"{keras.backend.backend()} on {', '.join(devices())}"
    print(f"{experiment.name}: {model.count_params():,} parameters; {device}; {settings.precision}")
    patches = "training patches"
    if settings.validation != "none":
        patches = f"the validation patches and of as many {patches}"
    print(f"AUC: AUC-ROC over the pixels in the field of view, of {patches}")
    if model.count_params() > SLOW_ON_A_CPU and not has_gpu():
        print("a network of this size needs weeks on a CPU; configurations/*_cpu.txt have smaller networks")
    if state.history and not reason_to_stop(state, settings):
        print(f"continuing after epoch {state.epochs_done}; --fresh starts with the first epoch")


def _print_validation_images(images: dict[str, list[TrainingImage]], settings: TrainingSettings) -> None:
    """With `validation = patches`, print which images validate, and warn if a patient also trains."""
    if settings.validation != "patches":
        return
    validating = {image.name for image in images["validation"]}
    patients = {comparable_name(image.patient) for image in images["validation"]}
    both = [
        f"{image.name} (patient {image.patient})"
        for image in images["train"]
        if comparable_name(image.patient) in patients
    ]
    leakage = (
        f"LEAKY: their patients also train: {', '.join(both)}" if both else "none of their patients trains"
    )
    print(f"validation = patches, as in retina-unet, of {', '.join(sorted(validating))}; {leakage}")


def _print_negatives(images: list[TrainingImage], settings: TrainingSettings) -> None:
    negatives, share = sum(image.negative for image in images), settings.negatives_share
    if negatives:
        share = negatives / len(images) if share is None else share
        print(f"{negatives} of {len(images)} training images are negatives; {share:.0%} of the patches")


def _too_large(configuration: Configuration, folder: Path) -> UserError:
    size = configuration.training_settings.batch_size
    return UserError(
        f"not enough memory on {', '.join(devices())} at [training settings] batch_size = {size}: end other "
        "programs that use it and start again without --fresh, to continue after the last complete epoch; or "
        f"lower batch_size and start with --fresh. The files of the epochs before are in {folder}"
    )
