"""A network made ready to learn: loss, optimizer, schedules."""

from collections.abc import Callable

import keras

from lib.configuration import TrainingSettings
from lib.experiment import has_gpu
from lib.losses import LOSSES, accuracy, with_rough_map
from lib.user_errors import UserError
from models.drop_block import DropBlock
from models.ldpc_net import rough_map


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
    model.compile(optimizer(rate), loss, metrics=[accuracy], jit_compile=xla)


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
