"""Locks that let one process at a time write into a folder: of an experiment, or of predictions."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lib.configuration.experiment_folder import Experiment
from lib.runtime.atomic_files import write_text
from lib.runtime.errors import UserError


class FolderLocked(UserError):
    """Another process writes into the folder."""


@contextmanager
def training_lock(experiment: Experiment) -> Iterator[None]:
    """Keep other trainings out of the experiment's folder; as `folder_lock`."""
    remedy = "wait for it or end it, or choose another [experiment name] name"
    with folder_lock(experiment.folder, "training.lock", "another training is running in it", remedy):
        yield


@contextmanager
def results_lock(results: Path) -> Iterator[None]:
    """Keep other tests out of a folder of results; as `folder_lock`."""
    with folder_lock(results, "testing.lock", "a test writes into it", "wait for it or end it"):
        yield


@contextmanager
def folder_lock(folder: Path, name: str, busy: str, remedy: str) -> Iterator[None]:
    """Keep other processes out of the folder until the context or the process ends, however it ends.

    A file system without locks gives a warning.

    Args:
        folder: is made if it is missing.
        name: name of the lock file in it.
        busy: what the other process does, for the error.
        remedy: what to do, for the error.

    Raises:
        FolderLocked: another process holds the lock; the message says which process on which machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # A lock that leaves a file behind (the "soft" one) would outlive a killed process.
    lock = FileLock(folder / name, timeout=0, fallback_to_soft=False)
    holder = folder / f"{name}.txt"  # on Windows no other process can read the locked file
    try:
        lock.acquire()
    except Timeout:
        process = holder.read_text(encoding="utf-8").strip() if holder.is_file() else "just started"
        raise FolderLocked(f"{folder}: {busy} ({process}); {remedy}") from None
    except OSError as error:
        if error.filename:  # the file cannot be opened
            raise
        print(
            f"{lock.lock_file}: this file system has no locks ({error.strerror}); "
            "start no second process that writes into this folder"
        )
    try:
        write_text(holder, f"process {os.getpid()} on {platform.node()}\n")  # follows no symbolic link
        yield
    finally:
        lock.release()
