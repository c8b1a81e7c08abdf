"""Prediction of many files into one folder: result files of each image, and one table."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from lib.images.labelme import labelme_document
from lib.images.masks import binary_mask
from lib.images.outlines import draw_prediction
from lib.images.png import encode_png, write_png
from lib.networks.trained_network import TrainedNetwork
from lib.prediction.found_images import FoundImage
from lib.prediction.fovea import Foveae
from lib.prediction.image_file import Prediction, predict_file
from lib.prediction.measurement import Measurement, measure
from lib.prediction.measurements_table import MeasurementsTable, print_differences, provenance, table_columns
from lib.runtime.atomic_files import write_text
from lib.runtime.errors import UserError
from lib.runtime.progress import progress

RESULT_ENDINGS = ("_probability.png", "_mask.png", "_overlay.png", ".json")
"""Endings of the result files of an image, in the order in which they are written."""

Outcome = Measurement | str
"""The row of an image in the table, or the reason why it could not be predicted."""

PredictMany = Callable[[Sequence[FoundImage]], Iterable[tuple[FoundImage, Outcome]]]
"""From images to the outcome of each, in any order."""


def predict_images(
    network: TrainedNetwork,
    images: Sequence[FoundImage],
    output: Path,
    foveae: Foveae,
    predict_many: PredictMany | None = None,
) -> tuple[Path, list[str]]:
    """Predict each image and write its results to `output`; a faulty file does not stop the others.

    An image is skipped if its row and its files exist, were made with these settings, and are newer than the
    image. So an interrupted prediction continues.

    Args:
        network: the trained network.
        images: with different names.
        output: folder of the results; no second process may write its table.
        foveae: positions of the fovea, for images that have one.
        predict_many: predicts the images that are not skipped; None predicts them one by one in this process.

    Returns:
        `measurements.csv`, with one row per predicted image in the order of `images`, and one line per image
        that could not be predicted.
    """
    table = MeasurementsTable(output / "measurements.csv", table_columns(network))
    settings = {image: _settings_sha256(network, foveae.get(image.file)) for image in images}
    left = [i for i in images if not (table.has_row(i, settings[i]) and _has_files(i, output))]
    one_by_one = ((i, predict_to_files(network, i, output, foveae.get(i.file))) for i in left)
    table.drop_rows(left)
    failures = {}
    with table.open_for_rows(images):
        outcomes = predict_many(left) if predict_many else one_by_one
        for image, outcome in progress(outcomes, "predicting", len(left)):
            if isinstance(outcome, str):
                failures[image] = outcome
            else:
                table.add_row(image, outcome, settings[image])
                print_differences(image, outcome)
    return table.file, [failures[image] for image in images if image in failures]


def predict_to_files(
    network: TrainedNetwork, image: FoundImage, output: Path, fovea: tuple[float, float] | None
) -> Outcome:
    """Predict one image and write its files."""
    try:
        prediction = predict_file(network, image.file)
        return write_results(network, image, prediction, output, fovea)
    except UserError as error:
        return str(error)


def _has_files(image: FoundImage, output: Path) -> bool:
    """Whether all result files exist and are newer than the image."""
    try:
        changed = image.file.stat().st_mtime
        files = (output / f"{image.name}{ending}" for ending in RESULT_ENDINGS)
        return all(file.stat().st_mtime >= changed for file in files)
    except OSError:
        return False


def _settings_sha256(network: TrainedNetwork, fovea: tuple[float, float] | None) -> str:
    """SHA-256 of everything, except the image, that changes a row."""
    changes_nothing = {"predict", "seen_images_sha256"}
    names = [f.name for f in dataclasses.fields(network) if f.name not in changes_nothing]
    settings = [*((name, getattr(network, name)) for name in names), fovea]
    return hashlib.sha256(repr(settings).encode()).hexdigest()


def write_results(
    network: TrainedNetwork,
    image: FoundImage,
    prediction: Prediction,
    output: Path,
    fovea: tuple[float, float] | None = None,
) -> Measurement:
    """Write probability map, mask, overlay and LabelMe file of one image; returns its row of the table."""
    field_of_view, probability = prediction.field_of_view, prediction.probability
    spacing = prediction.pixel_spacing_mm
    mask = binary_mask(probability, field_of_view, network.threshold, network.min_area_px)
    measured = measure(
        mask, probability, field_of_view, pixel_spacing_mm=spacing, fovea=fovea, share=network.share_column
    )
    levels = np.rint(probability * 65535).astype(np.uint16)
    write_png(output / f"{image.name}_probability.png", levels)
    write_png(output / f"{image.name}_mask.png", mask.astype(np.uint8) * 255)
    overlay = draw_prediction(prediction.original, mask, field_of_view)
    write_png(output / f"{image.name}_overlay.png", overlay)
    is_dicom = image.file.suffix.lower() in {".dcm", ".dicom"}  # LabelMe cannot read it
    document = labelme_document(
        mask,
        network.label,
        os.path.relpath(image.file, output),
        image_png=encode_png(prediction.original) if is_dicom else None,
    )
    write_text(output / f"{image.name}.json", json.dumps(document, ensure_ascii=False) + "\n")
    return {**measured, **provenance(network, prediction)}
