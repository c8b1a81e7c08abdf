"""Data parallelism: one training on several GPUs of a machine or, with JAX, of several machines."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import keras

from lib.configuration.sections import TrainingSettings
from lib.runtime.errors import UserError

Scope = Callable[[], AbstractContextManager]
"""Makes a context; a network that is built and trained in it uses all chosen devices."""


def data_parallel(settings: TrainingSettings) -> tuple[Scope, bool]:
    """Divide each batch among `devices`.

    `batch_size` is the number of patches on all devices together, so that neither the number of steps nor
    the learning rate depends on the number of devices. With JAX, the loss and batch normalisation use the
    whole batch. With TensorFlow (`tf.distribute.MirroredStrategy`) they use the part of the batch on each
    device, and the gradients are averaged.

    Returns:
        The scope, and whether it has more than one device.

    Raises:
        UserError: there are not so many devices, they cannot divide the batches equally, or the backend has
            no data parallelism.
    """
    found = keras.distribution.list_devices()
    number = len(found) if settings.devices == "all" else settings.devices
    if process_count() > 1 and settings.devices != "all":
        raise UserError("[training settings] devices: expected all, for a training on several machines")
    if number <= 1:
        return nullcontext, False
    given = f"[training settings] devices = {settings.devices}"
    if number > len(found):
        raise UserError(f"{given}: there are {len(found)} ({', '.join(found)})")
    if settings.fixed_batch_size % number:
        raise UserError(f"{given}: expected batch_size = {settings.batch_size} to be a multiple of {number}")
    backend = keras.backend.backend()
    if backend == "jax":
        mesh = keras.distribution.DataParallel(devices=found[:number], auto_shard_dataset=False)
        return mesh.scope, True
    if backend == "tensorflow":
        # Only now: another backend may be in use, without TensorFlow.
        import tensorflow as tf  # noqa: TID251 (Keras has no data parallelism with TensorFlow)

        return tf.distribute.MirroredStrategy(found[:number]).scope, True
    raise UserError(f"{given}: expected 1 with {backend}; choose tensorflow or jax")


def process_count() -> int:
    """The number of processes of this training: one on each machine."""
    return int(os.environ.get("KERAS_DISTRIBUTION_NUM_PROCESSES", 1))


def process_index() -> int:
    """The index, from 0, of this process among those of this training."""
    return int(os.environ.get("KERAS_DISTRIBUTION_PROCESS_ID", 0))


def is_first_process() -> bool:
    """Whether this process is the one that writes to the folder of the experiment."""
    return process_index() == 0
