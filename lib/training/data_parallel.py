"""One training on several devices: the GPUs of a machine, under JAX also those of several machines."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import keras

from lib.configuration.sections import TrainingSettings
from lib.runtime.errors import UserError

Scope = Callable[[], AbstractContextManager]
"""Makes a context in which a network is built, and trained, on all chosen devices."""


def data_parallel(settings: TrainingSettings) -> tuple[Scope, bool]:
    """Where to build and train a network so that each step's batch is shared out among `devices`.

    `batch_size` is that of all devices together, so that neither the number of steps nor the learning
    rate depends on their number. Under JAX every device sees the loss and the batch normalisation of the
    whole batch; under TensorFlow (`tf.distribute.MirroredStrategy`) those of its own share, and the
    gradients are averaged.

    Returns:
        The scope, and whether it is of more than one device.

    Raises:
        UserError: there are not so many, they cannot share the batches equally, or the backend cannot.
    """
    found = keras.distribution.list_devices()
    number = len(found) if settings.devices == "all" else settings.devices
    if process_number_and_count()[1] > 1 and settings.devices != "all":
        raise UserError(
            "[training settings] devices: expected all, for a training on several machines"
        )
    if number <= 1:
        return nullcontext, False
    given = f"[training settings] devices = {settings.devices}"
    if number > len(found):
        raise UserError(f"{given}: there are {len(found)} ({', '.join(found)})")
    if settings.batch_size % number:
        raise UserError(
            f"{given}: expected batch_size = {settings.batch_size} to be a multiple of {number}"
        )
    if keras.backend.backend() == "jax":
        mesh = keras.distribution.DataParallel(devices=found[:number], auto_shard_dataset=False)
        return mesh.scope, True
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf  # noqa: TID251 (Keras has no data parallelism of its own there)

        return tf.distribute.MirroredStrategy(found[:number]).scope, True
    raise UserError(
        f"{given}: expected 1 under {keras.backend.backend()}; choose tensorflow or jax"
    )


def process_number_and_count() -> tuple[int, int]:
    """The number, from 0, of this process among those of one training, and how many they are."""
    number = int(os.environ.get("KERAS_DISTRIBUTION_NUM_PROCESSES", 1))
    return int(os.environ.get("KERAS_DISTRIBUTION_PROCESS_ID", 0)), number


def is_first_process() -> bool:
    """Whether this process writes to the experiment's folder: the first of several machines does."""
    return process_number_and_count()[0] == 0
