"""Predicted images kept in one HDF5 file, so that runs can be compared without predicting again."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py

from lib.evaluation.scoring import PredictedImage, refuse_not_finite
from lib.runtime.atomic_files import remove_abandoned, written_atomically
from lib.runtime.errors import UserError
from lib.runtime.safe_hdf5 import plain_datasets, written_hdf5

ARRAYS = ("probability", "truth", "field_of_view", "original", "second_observer")


def write_predictions(file: Path, cases: Iterable[PredictedImage]) -> None:
    """One group an image, in order: its arrays, compressed, and its name and patient.

    Raises:
        UserError: a probability is not finite; the file cannot be written.
    """
    remove_abandoned(file)
    with written_atomically(file) as (beside,), written_hdf5(beside) as store:
        for number, case in enumerate(cases):
            refuse_not_finite(case)
            group = store.create_group(f"{number:06d}")
            group.attrs["name"], group.attrs["patient"] = case.name, case.patient
            for name in ARRAYS:
                if (array := getattr(case, name)) is not None:
                    group.create_dataset(name, data=array, compression="gzip", compression_opts=2)
            store.flush()


def read_predictions(file: Path) -> Iterator[PredictedImage]:
    """Yield the images one at a time.

    Raises:
        UserError: there is no such file, or it is not readable.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file; run run_testing.py first")
    try:
        with h5py.File(file, "r") as store:
            plain_datasets(store)
            for group in store.values():
                arrays = {name: group[name][...] for name in ARRAYS if name in group}
                yield PredictedImage(group.attrs["name"], group.attrs["patient"], **arrays)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{file}: not readable ({error}); run run_testing.py again") from None


def sizes_of_predictions(file: Path) -> list[tuple[int, int]]:
    """Height and width of each image of a file that was just written."""
    with h5py.File(file, "r") as store:
        return [group["truth"].shape for group in store.values()]
