"""A network with its loss, optimizer and schedules, on one device or several."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from lib.configuration.reading import Configuration
from lib.configuration.sections import TrainingSettings
from lib.networks.keras_model import build_model, has_gpu
from lib.runtime.errors import UserError
from lib.training.data_parallel import Scope, data_parallel
from lib.training.losses_and_metrics import LOSSES, accuracy, per_replica, with_rough_map
from lib.training.patch_batches import PatchBatches
from models.drop_block import DropBlock
from models.ldpc_net import rough_map


@dataclass(frozen=True)
class CompiledModel:
    """A network in training.

    Attributes:
        model: what is measured and saved, on one device.
        network: the layers that are trained: those of `model`, on several devices a second network with the
            same weights.
        compiled: `network` with loss and optimizer, for some losses with a second output.
        scope: the devices; `compiled` is built and fitted in it.
    """

    model: keras.Model
    network: keras.Model
    compiled: keras.Model
    scope: Scope

    @classmethod
    def of(cls, model: keras.Model, configuration: Configuration) -> "CompiledModel":
        """The model, compiled for the devices of the configuration."""
        settings, network = configuration.training_settings, model
        scope, several = data_parallel(settings)
        with scope():
            if several:
                network = build_model(configuration)
                network.set_weights(model.get_weights())
            compiled = compile_model(network, settings)
            # Else the first `fit` of a process builds the metrics from the first batch and trains on that
            # batch last (Keras 3.15 under JAX), so that a resumed epoch would have another order.
            attributes = configuration.data_attributes
            patches = (settings.batch_size, attributes.patch_height, attributes.patch_width)
            x, y = (np.zeros((*patches, channels), np.float32) for channels in (1, 2))
            compiled.test_on_batch(x, y)
        return cls(model, network, compiled, scope)

    def fit(self, patches: PatchBatches, callbacks: list) -> dict[str, list[float]]:
        """Train on all patches once; returns the mean of loss and metrics."""
        with self.scope():
            # Keras would shuffle the batches by a random state that no checkpoint holds.
            fitted = self.compiled.fit(patches, shuffle=False, verbose=0, callbacks=callbacks)
        if self.network is not self.model:
            self.model.set_weights(self.network.get_weights())
        return fitted.history


def compile_model(model: keras.Model, settings: TrainingSettings) -> keras.Model:
    """The model with loss and optimizer; with `rough_map_loss_weight`, both maps, of the same weights."""
    loss, weight = LOSSES[settings.loss], settings.rough_map_loss_weight
    if weight:
        try:
            rough = rough_map(model)
        except ValueError:
            raise UserError(
                f"[training settings] rough_map_loss_weight = {weight:g}: {model.name} has no rough map; "
                "expected 0, or a network ldpc_*"
            ) from None
        loss = with_rough_map(loss, weight)
        model = keras.Model(model.input, keras.layers.Concatenate()([model.output, rough]))
    _compile(model, settings, loss)
    return model


def _compile(model: keras.Model, settings: TrainingSettings, loss: Callable) -> None:
    rate = settings.learning_rate
    if settings.learning_rate_schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, settings.steps * settings.N_epochs)
    optimizer = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}[settings.optimizer]
    # XLA speeds training up on a GPU and slows it down by 1.2 to 1.8 on a CPU; JAX is always compiled.
    xla = has_gpu() if keras.backend.backend() == "tensorflow" else "auto"
    model.compile(optimizer(rate), per_replica(loss), metrics=[accuracy], jit_compile=xla)


def set_drop_block_rate(model: keras.Model, settings: TrainingSettings, epochs_done: int) -> None:
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
