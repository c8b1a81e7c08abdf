"""The lock that lets one training at a time work in an experiment's folder."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from lib.configuration.experiment_folder import Experiment
from lib.runtime.errors import UserError


class FolderLocked(UserError):
    """Another training is running in the experiment's folder."""


@contextmanager
def training_lock(experiment: Experiment) -> Iterator[None]:
    """Keep other trainings out of the folder until the context or the process ends, however it ends.

    A file system without locks gives a warning.

    Raises:
        FolderLocked: another training holds the lock; the message says which process on which machine.
    """
    experiment.folder.mkdir(parents=True, exist_ok=True)
    # A lock that leaves a file behind (the "soft" one) would outlive a killed process.
    lock = FileLock(experiment.folder / "training.lock", timeout=0, fallback_to_soft=False)
    holder = experiment.folder / "training.lock.txt"  # on Windows no other process can read the locked file
    try:
        lock.acquire()
    except Timeout:
        process = holder.read_text(encoding="utf-8").strip() if holder.is_file() else "just started"
        raise FolderLocked(
            f"{experiment.folder}: another training is running in it ({process}); "
            "wait for it or end it, or choose another [experiment name] name"
        ) from None
    except OSError as error:
        if error.filename:  # the file cannot be opened
            raise
        print(
            f"{lock.lock_file}: this file system has no locks ({error.strerror}); "
            "start no second training in this folder"
        )
    try:
        holder.write_text(f"process {os.getpid()} on {platform.node()}\n", encoding="utf-8")
        yield
    finally:
        lock.release()
