"""Prediction of many files into one folder: result files of each image, and tables of all."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lib.configuration.folder_lock import folder_lock
from lib.images.checked_files import dicom_functions, file_sha256
from lib.networks.trained_network import TrainedNetwork
from lib.prediction.found_images import FoundImage
from lib.prediction.fovea import Foveae
from lib.prediction.image_file import Prediction, predict_file
from lib.prediction.measurements_table import MEASUREMENTS, print_differences
from lib.prediction.result_files import DicomObjects, Result, encode_result, file_names
from lib.prediction.results_record import Entry, FilesChanged, ResultsRecord
from lib.runtime.atomic_files import remove_abandoned
from lib.runtime.errors import UserError
from lib.runtime.progress import progress

Outcome = Result | str
"""The result of an image, or the reason why it could not be predicted."""

PredictMany = Callable[[Sequence[FoundImage]], Iterable[tuple[FoundImage, Outcome]]]
"""From images to the outcome of each, in any order."""

CHANGES_NO_RESULT: dict[str, Any] = {
    "test_batch_size": 16,
    "full_images_to_test": "all",
    "N_group_visual": 1,
    "connectivity": False,
    "nohup": False,
}
"""Keys of [testing settings] that change no result. The hash of the settings has these values for them: those
of `configuration.txt` in the earlier versions that hashed these keys, whose results stay valid."""

REMEDY = "wait for it or end it, or choose another --output"


def predict_images(
    network: TrainedNetwork,
    images: Sequence[FoundImage],
    output: Path,
    foveae: Foveae,
    predict_many: PredictMany | None = None,
    *,
    overwrite: bool = False,
    dicom_objects: DicomObjects | None = None,
    report: bool = False,
) -> tuple[Path, list[str]]:
    """Predict each image and write its results to `output`; a faulty file does not stop the others.

    An image is skipped if its content (SHA-256) and these settings are those of its results, and its files
    exist. So an interrupted prediction continues. Results of other images in the folder stay.

    Args:
        network: the trained network.
        images: with different paths; found for this `output`.
        output: folder of the results.
        foveae: positions of the fovea, for images that have one.
        predict_many: predicts the images that are not skipped; None predicts them in this process.
        overwrite: replace files that are not our own, or were changed since they were written.
        dicom_objects: also write the DICOM objects of images that are DICOM files.
        report: also write `report.html`, with all images whose results are in the folder.

    Returns:
        `measurements.csv`, with one row for each image whose results are in the folder, in the order of the
        paths; and one line for each of `images` that could not be predicted.

    Raises:
        UserError: another prediction writes into the folder; or files would have to be replaced that a person
            made or changed.
    """
    with folder_lock(output, "results.lock", "another prediction is writing into it", REMEDY):
        remove_abandoned(output)
        record = ResultsRecord(output, overwrite=overwrite, report=report)
        settings = {image: settings_sha256(network, foveae.get(image.file)) for image in images}
        left = _images_to_predict(record, settings, overwrite=overwrite, dicom=bool(dicom_objects))
        record.begin([image.text for image in left])
        predict_many = predict_many or partial(_predict_here, network, foveae, dicom_objects)
        failures: dict[FoundImage, str] = {}
        try:
            for image, outcome in progress(predict_many(left), "predicting", len(left)):
                fault = _keep(record, image, outcome, settings[image])
                failures |= {image: fault} if fault else {}
                if isinstance(outcome, Result):
                    print_differences(image.file, outcome.measurements)
                    if outcome.image_sha256 in network.seen_images_sha256:
                        tqdm.write(
                            f"{image.file}: this image was used to train the network; results on new "
                            "images are worse"
                        )
                    if outcome.dicom_fault:
                        failures.setdefault(image, outcome.dicom_fault)
                    elif dicom_objects and "segmentation" not in outcome.contents:
                        tqdm.write(f"{image.file}: no DICOM source: no DICOM object")
        finally:
            record.finish()
    return output / MEASUREMENTS, [failures[image] for image in images if image in failures]


def predict_one(
    network: TrainedNetwork,
    image: FoundImage,
    fovea: tuple[float, float] | None = None,
    dicom_objects: DicomObjects | None = None,
) -> Outcome:
    """Predict one image; no file is written."""
    return _encode(network, image, _predict(network, image), fovea, dicom_objects)


def _predict_here(
    network: TrainedNetwork, foveae: Foveae, dicom_objects: DicomObjects | None, images: Sequence[FoundImage]
) -> Iterator[tuple[FoundImage, Outcome]]:
    """Predict the images in order. A thread encodes the files of an image while the next one is predicted."""
    if dicom_objects:
        # Not in a thread: Python suppresses warnings, which quote patients, safely in one thread only.
        yield from ((i, predict_one(network, i, foveae.get(i.file), dicom_objects)) for i in images)
        return
    encoding: list[tuple[FoundImage, Future[Outcome]]] = []  # of the image before
    with ThreadPoolExecutor(1) as encoder:
        for image in [*images, None]:
            try:
                predicted = _predict(network, image) if image else ""
                wait(outcome for _, outcome in encoding)
            finally:  # after Ctrl-C, too
                for before, outcome in encoding:
                    yield before, outcome.result()
            if image:
                fovea = foveae.get(image.file)
                encoding = [(image, encoder.submit(_encode, network, image, predicted, fovea, None))]


def _predict(network: TrainedNetwork, image: FoundImage) -> tuple[str, Prediction] | str:
    """SHA-256 of the file and its prediction, or the reason why it could not be predicted."""
    try:
        return file_sha256(image.file), predict_file(network, image.file)
    except (UserError, OSError) as error:
        return _fault(image, error)


def _encode(
    network: TrainedNetwork,
    image: FoundImage,
    predicted: tuple[str, Prediction] | str,
    fovea: tuple[float, float] | None,
    dicom_objects: DicomObjects | None,
) -> Outcome:
    if isinstance(predicted, str):
        return predicted
    try:
        return encode_result(network, image, *predicted, fovea, dicom_objects)
    except (UserError, OSError) as error:
        return _fault(image, error)


def _fault(image: FoundImage, error: UserError | OSError) -> str:
    if isinstance(error, UserError):
        return str(error)
    # The file was moved, or a network folder was lost, since it was found.
    return f"{image.file}: cannot be read ({error.strerror or error})"


def _images_to_predict(
    record: ResultsRecord, settings: Mapping[FoundImage, str], *, overwrite: bool, dicom: bool
) -> list[FoundImage]:
    """The images without results of this content and these settings.

    Raises:
        UserError: lists the files of these images, and tables, that a person made or changed.
    """
    left, kept, refused = [], [], record.changed_tables()
    for image in progress(settings, "comparing", len(settings)):
        names = list(file_names(image).values())
        changed = record.changed_files(image.text, names)
        entry = record.entry(image.text)
        complete = entry and all((record.output / name).exists() for name, _ in entry["files"].values())
        # A LabelMe file that a person has corrected is kept, although its image has no DICOM objects then.
        if entry and dicom and not changed and "segmentation" not in entry["files"]:
            complete = complete and not _is_dicom(image.file)
        if entry and complete and not (changed and overwrite) and _is_of(entry, image, settings[image]):
            kept += changed
        else:
            left.append(image)
            refused += changed
    if not overwrite:
        record.refuse_changed(refused)
    if skipped := len(settings) - len(left):
        print(f"{skipped} of {len(settings)} images skipped: they have results of this content and settings")
    for file in refused if overwrite else ():
        print(f"{file}: not written by run_prediction.py, or changed since; replaced (--overwrite)")
    for file in kept:
        print(f"{file}: changed since it was written; kept as it is")
    return left


def _is_dicom(file: Path) -> bool:
    with suppress(OSError):
        return dicom_functions(file) is not None
    return False


def _is_of(entry: Entry, image: FoundImage, settings: str) -> bool:
    """Whether an entry of the record is of these settings and of the present content of the image."""
    with suppress(UserError):
        return entry["settings_sha256"] == settings and entry["image_sha256"] == file_sha256(image.file)
    return False


def _has_changed(entry: Entry, image: FoundImage) -> bool:
    """Whether the image has another content than that of an entry; False if it cannot be read now."""
    with suppress(UserError):
        return entry["image_sha256"] != file_sha256(image.file)
    return False


def _keep(record: ResultsRecord, image: FoundImage, outcome: Outcome, settings: str) -> str | None:
    """Write the results of an image; returns the reason if it could not be predicted.

    Then earlier results stay if the image has not changed since: they are those of the settings in their row.
    The reason names the image.
    """
    try:
        if isinstance(outcome, str):
            raise UserError(outcome if outcome.startswith(f"{image.file}: ") else f"{image.file}: {outcome}")
        names = file_names(image)
        contents = {names[kind]: content for kind, content in outcome.contents.items()}
        record.add(_entry(image, outcome, settings), contents)
    except FilesChanged as error:
        return str(error)
    except UserError as error:
        entry = record.entry(image.text)
        if entry is None or _has_changed(entry, image):
            record.discard(image.text)
        return str(error)
    return None


def _entry(image: FoundImage, result: Result, settings: str) -> Entry:
    names = file_names(image)
    files = {k: [names[k], hashlib.sha256(content).hexdigest()] for k, content in result.contents.items()}
    return {
        "image": image.text,
        "image_sha256": result.image_sha256,
        "settings_sha256": settings,
        "files": files,
        "measurements": result.measurements,
        "area_sizes_px": result.area_sizes_px,
    }


def settings_sha256(network: TrainedNetwork, fovea: tuple[float, float] | None) -> str:
    """SHA-256 of everything, except the image, that changes a row."""
    changes_nothing = {"predict", "seen_images_sha256"}
    names = [f.name for f in dataclasses.fields(network) if f.name not in changes_nothing]
    hashed = dataclasses.replace(network.testing_settings, **CHANGES_NO_RESULT)
    network = dataclasses.replace(network, testing_settings=hashed)
    settings = [*((name, getattr(network, name)) for name in names), fovea]
    # Results of earlier versions, which had no angle, stay valid.
    if (angle := network.testing_settings.relative_angle) != 1:
        settings.append(("relative_angle", angle))
    return hashlib.sha256(repr(settings).encode()).hexdigest()
