"""A network made ready to learn: loss, optimizer, schedules."""

from collections.abc import Callable
from dataclasses import dataclass

import keras

from lib.configuration.reading import Configuration
from lib.configuration.sections import TrainingSettings
from lib.devices import Scope, data_parallel
from lib.losses import LOSSES, accuracy, averaged, with_rough_map
from lib.networks.keras_model import build_model, has_gpu
from lib.patch_sequence import PatchSequence
from lib.runtime.errors import UserError
from models.drop_block import DropBlock
from models.ldpc_net import rough_map


@dataclass(frozen=True)
class Trainee:
    """A network in training.

    Attributes:
        model: what is measured and kept, on one device.
        trained: the model itself; on several devices a second one, whose weights it takes over.
        learner: `trained`, compiled, perhaps with a second output.
        scope: in which the learner is made and fitted.
    """

    model: keras.Model
    trained: keras.Model
    learner: keras.Model
    scope: Scope

    @classmethod
    def of(cls, model: keras.Model, configuration: Configuration) -> "Trainee":
        """The model, or one like it on the devices that are configured, made ready to learn."""
        settings, trained = configuration.training_settings, model
        scope, several = data_parallel(settings)
        with scope():
            if several:
                trained = build_model(configuration)
                trained.set_weights(model.get_weights())
            return cls(model, trained, learner_of(trained, settings), scope)

    def fit(self, patches: PatchSequence, callbacks: list) -> dict[str, list[float]]:
        """One pass over the patches; returns means over it."""
        with self.scope():
            # Else the first fit in a process takes the first batch out to build the metrics, and
            # (Keras 3.15 under JAX) trains on it last: a resumed epoch would have another order.
            self.learner._symbolic_build(data_batch=patches[0])
            # Keras would shuffle the batches from a random state of its own, which no checkpoint holds.
            fitted = self.learner.fit(patches, shuffle=False, verbose=0, callbacks=callbacks)
        if self.trained is not self.model:
            self.model.set_weights(self.trained.get_weights())
        return fitted.history


def learner_of(model: keras.Model, settings: TrainingSettings) -> keras.Model:
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


def _compile(model: keras.Model, settings: TrainingSettings, loss: Callable) -> None:
    rate = settings.learning_rate
    if settings.learning_rate_schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, settings.steps * settings.N_epochs)
    optimizer = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}[settings.optimizer]
    # XLA speeds training up on a GPU and slows it down by 1.2 to 1.8 on a CPU; JAX is always compiled.
    xla = has_gpu() if keras.backend.backend() == "tensorflow" else "auto"
    model.compile(optimizer(rate), averaged(loss), metrics=[accuracy], jit_compile=xla)


def grow_dropout(model: keras.Model, settings: TrainingSettings, epochs_done: int) -> None:
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
