"""One HDF5 file with all predicted images of a run, so that runs are compared without a second prediction."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py

from lib.evaluation.scoring import PredictedImage, refuse_not_finite
from lib.runtime.atomic_files import remove_abandoned, written_atomically
from lib.runtime.errors import UserError
from lib.runtime.safe_hdf5 import plain_datasets, written_hdf5

ARRAYS = ("probability", "truth", "field_of_view", "original", "second_observer")


def write_predictions(file: Path, cases: Iterable[PredictedImage]) -> None:
    """Write one group per image, in order: its compressed arrays, its name and its patient.

    Raises:
        UserError: a probability is not finite; the file cannot be written.
    """
    remove_abandoned(file)
    with written_atomically(file) as (temporary,), written_hdf5(temporary) as store:
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
        UserError: the file does not exist, or it is not readable.
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
    """Height and width of each image of a file that this process wrote."""
    with h5py.File(file, "r") as store:
        return [group["truth"].shape for group in store.values()]
