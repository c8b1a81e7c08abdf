"""The images of a part: predicted one by one, kept in one HDF5 file, read from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import h5py

from lib.configuration.reading import Configuration
from lib.configuration.sections import TestingSettings
from lib.datasets.prepared_hdf5 import names_and_patients, read_part
from lib.evaluation.scoring import PredictedImage, refuse_not_finite
from lib.images.preprocessing import preprocess
from lib.networks.batches import HalfBatchRetry
from lib.networks.trained_network import Predict
from lib.prediction.sliding_window import predict_stored_size
from lib.runtime.atomic_files import remove_abandoned, written_atomically
from lib.runtime.errors import UserError
from lib.runtime.progress import progress
from lib.runtime.safe_hdf5 import plain_datasets, written_hdf5

ARRAYS = ("probability", "truth", "field_of_view", "original", "second_observer")


def predict_part(
    predict: Predict,
    configuration: Configuration,
    settings: TestingSettings,
    part: str,
    limit: int | None = None,
) -> Iterator[PredictedImage]:
    """Predict the images of one part (train, validation or test), one at a time; at most `limit` of them.

    `predict` is e.g. `predict_on_batch` of a model, `settings` are those of
    `lib.networks.keras_model.prediction_settings`. The probabilities have the stored
    size of the image, whatever size the network sees.
    """
    files = configuration.data_paths.hdf5(part)
    number = len(names_and_patients(files)[:limit])
    # The validation images have the angle of the training.
    angle = settings.relative_angle if part == "test" else 1
    predict = HalfBatchRetry(predict)
    for image in progress(read_part(files, limit), f"predicting {part}", number):
        levels = preprocess(image.original, image.field_of_view, configuration.preprocessing, angle)
        yield PredictedImage(
            image.name,
            image.patient,
            predict_stored_size(predict, levels, image.field_of_view, settings),
            image.truth,
            image.field_of_view,
            image.original,
            image.second_observer,
        )


def write_predictions(
    file: Path, cases: Iterable[PredictedImage], outdated: Callable[[], Iterable[Path]] = tuple
) -> None:
    """Write one group per image, in order: its compressed arrays, its name and its patient.

    Args:
        file: the file; it is replaced when all images are written.
        cases: the images.
        outdated: gives the files that show the old predictions; they are removed before these are replaced.

    Raises:
        UserError: a probability is not finite; the file cannot be written.
    """
    remove_abandoned(file.parent, [file.name])
    with written_atomically(file) as (temporary,):
        with written_hdf5(temporary) as store:
            for number, case in enumerate(cases):
                refuse_not_finite(case)
                group = store.create_group(f"{number:06d}")
                group.attrs["name"], group.attrs["patient"] = case.name, case.patient
                for name in ARRAYS:
                    if (array := getattr(case, name)) is not None:
                        group.create_dataset(name, data=array, compression="gzip", compression_opts=2)
                store.flush()
        for old in outdated():
            old.unlink(missing_ok=True)


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
