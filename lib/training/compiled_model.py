"""Compiling a network for a training: loss, optimizer, average of the weights, one device or several."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from lib.configuration.reading import Configuration
from lib.configuration.sections import TrainingSettings
from lib.networks.keras_model import build_model, has_gpu
from lib.runtime.errors import UserError
from lib.training.callbacks import UnaveragedWeights
from lib.training.data_parallel import Scope, data_parallel
from lib.training.losses_and_metrics import (
    LOSSES,
    accuracy,
    auxiliary_crossentropy,
    per_replica,
    with_further_outputs,
)
from lib.training.training_patches import PatchBatches, target_channels
from models import Tensor
from models.blocks import auxiliary_map, rough_map
from models.drop_block import DropBlock


@dataclass(frozen=True)
class TrainingModels:
    """The Keras models of one training.

    Attributes:
        saved: the network, on one device; it is measured and saved.
        trained: the network whose layers are trained: `saved`; on several devices a copy on all of them, with
            `weight_average` a copy whose weights `saved` gets the average of.
        compiled: `trained` with loss and optimizer; for some losses it has a second output.
        scope: the devices; `compiled` is built and used in it.
    """

    saved: keras.Model
    trained: keras.Model
    compiled: keras.Model
    scope: Scope

    @classmethod
    def of(cls, model: keras.Model, configuration: Configuration) -> "TrainingModels":
        """Compile the model for the devices of the configuration."""
        settings, trained = configuration.training_settings, model
        scope, several_devices = data_parallel(settings)
        with scope():
            if several_devices or settings.weight_average:
                trained = build_model(configuration)
                trained.set_weights(model.get_weights())
            compiled = compile_model(trained, settings, settings.steps)
            # Build the metrics now. Otherwise the first `fit` of a process builds them from the first batch
            # and trains on that batch last (Keras 3.15 with JAX): after a resume the order would differ.
            compiled.test_on_batch(*_empty_patches(configuration, settings.fixed_batch_size))
        return cls(model, trained, compiled, scope)

    def fit(self, patches: PatchBatches, callbacks: list[keras.callbacks.Callback]) -> dict[str, list[float]]:
        """Train on all patches once; return the mean loss and metrics of the epoch."""
        unaveraged = UnaveragedWeights()
        if self.compiled.optimizer.use_ema:
            callbacks = [*callbacks, unaveraged]
        with self.scope():
            # No shuffling by Keras: its random state is not in the checkpoint.
            fitted = self.compiled.fit(patches, shuffle=False, verbose=0, callbacks=callbacks)
        if self.trained is not self.saved:
            self.saved.set_weights(self.trained.get_weights())
        if self.compiled.optimizer.use_ema:
            with self.scope():
                self.compiled.set_weights(unaveraged.weights)  # the training continues with these
        return fitted.history


def compile_model(model: keras.Model, settings: TrainingSettings, steps: int) -> keras.Model:
    """The model with loss and optimizer; maps with a loss of their own are further channels of the output.

    These are the rough map with `rough_map_loss_weight`, and the auxiliary map with `auxiliary_loss_weight`.

    Args:
        model: the network; its layers are shared.
        settings: loss, optimizer and learning rate.
        steps: steps of an epoch, for the cosine schedules.

    Raises:
        UserError: `rough_map_loss_weight` for a network without a rough map.
    """
    loss, outputs, further = LOSSES[settings.loss], [model.output], []
    if weight := settings.rough_map_loss_weight:
        outputs.append(_rough_map(model, weight))
        further.append((weight, loss))
    if weight := settings.auxiliary_loss_weight:
        outputs.append(auxiliary_map(model))
        further.append((weight, auxiliary_crossentropy))
    if further:
        loss = with_further_outputs(loss, further)
        model = keras.Model(model.input, keras.layers.Concatenate(dtype="float32")(outputs))
    # XLA makes a training faster on a GPU, and 1.2 to 1.8 times slower on a CPU. JAX always uses it.
    xla = has_gpu() if keras.backend.backend() == "tensorflow" else "auto"
    optimizer = _optimizer(model, settings, steps)
    model.compile(optimizer, per_replica(loss), metrics=[accuracy], jit_compile=xla)
    return model


class _RisingMomentum:
    """Makes an optimizer of Keras average more and more weights: in step t, from 0, the momentum of the
    average is (1 + t) / (10 + t), up to `ema_momentum` (as in tf.train.ExponentialMovingAverage).

    With a constant momentum of 0.99, the random initial weights would count for a third after 100 steps.
    """

    iterations: Tensor

    @property
    def ema_momentum(self) -> Tensor:
        steps = ops.cast(self.iterations, "float32")
        return ops.minimum((1 + steps) / (10 + steps), self._largest_momentum)

    @ema_momentum.setter
    def ema_momentum(self, largest: float) -> None:
        self._largest_momentum = largest


class AveragingAdam(_RisingMomentum, keras.optimizers.Adam):
    """Adam with an average of the weights."""


class AveragingAdamW(_RisingMomentum, keras.optimizers.AdamW):
    """AdamW with an average of the weights."""


class AveragingSGD(_RisingMomentum, keras.optimizers.SGD):
    """SGD with an average of the weights."""


OPTIMIZERS: dict[str, tuple[Callable[..., keras.Optimizer], Callable[..., keras.Optimizer]]] = {
    "adam": (keras.optimizers.Adam, AveragingAdam),
    "adamw": (keras.optimizers.AdamW, AveragingAdamW),
    "sgd": (keras.optimizers.SGD, AveragingSGD),
}
"""The optimizers of Keras, each without and with an average of the weights."""

WITHOUT_WEIGHT_DECAY = ("bias", "gamma", "beta")
"""Names that Keras gives biases, and factor and offset of batch normalisation."""


def _optimizer(model: keras.Model, settings: TrainingSettings, steps: int) -> keras.Optimizer:
    rate = settings.learning_rate
    if settings.learning_rate_schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps * settings.N_epochs)
    elif settings.learning_rate_schedule == "cosine_cycles":
        rate = keras.optimizers.schedules.CosineDecayRestarts(rate, steps * settings.cycle_epochs, t_mul=1)
    plain, averaging = OPTIMIZERS[settings.optimizer]
    options = {"weight_decay": settings.weight_decay} if settings.optimizer == "adamw" else {}
    if settings.weight_average:
        optimizer = averaging(rate, use_ema=True, ema_momentum=settings.weight_average, **options)
    else:
        optimizer = plain(rate, **options)
    if settings.optimizer == "adamw":
        excluded = [v for v in model.trainable_variables if v.name in WITHOUT_WEIGHT_DECAY]
        optimizer.exclude_from_weight_decay(var_list=excluded)
    return optimizer


def _rough_map(model: keras.Model, weight: float) -> Tensor:
    try:
        return rough_map(model)
    except ValueError:
        raise UserError(
            f"[training settings] rough_map_loss_weight = {weight:g}: {model.name} has no rough map; "
            "expected 0, or w_net or a network ldpc_*"
        ) from None


def training_step(configuration: Configuration) -> Callable[[int], object]:
    """A function that trains a new network for one step on the given number of empty patches."""
    # The number of steps has no influence on the speed.
    model = compile_model(build_model(configuration), configuration.training_settings, steps=1)
    return lambda number: model.train_on_batch(*_empty_patches(configuration, number))


def set_drop_block_rate(model: keras.Model, settings: TrainingSettings, epochs_done: int) -> None:
    """Set the rate of DropBlock, which grows linearly over `dropout_growth_epochs` epochs.

    Raises:
        UserError: `dropout_growth_epochs` for a network without DropBlock.
    """
    growth = settings.dropout_growth_epochs
    share = min(1.0, epochs_done / growth) if growth else 1.0
    drop_blocks = [layer for layer in model.layers if isinstance(layer, DropBlock)]
    if growth and not drop_blocks:
        raise UserError(
            f"[training settings] dropout_growth_epochs = {growth}: {model.name} has no DropBlock; "
            "expected 0, or ldpc_net or ldpc_sd"
        )
    for layer in drop_blocks:
        layer.rate_now.assign(layer.rate * share)


def _empty_patches(configuration: Configuration, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (number, h, w, C) and targets as in `PatchBatches`, all 0, float32."""
    attributes = configuration.data_attributes
    patches = (number, attributes.patch_height, attributes.patch_width)
    channels = len(configuration.preprocessing.channels)
    targets = target_channels(configuration.training_settings)
    return np.zeros((*patches, channels), np.float32), np.zeros((*patches, targets), np.float32)
