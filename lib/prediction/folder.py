"""Prediction of many files, one at a time: what is found in folders, what is left of each, the table."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lib.images.labelme import labelme_document
from lib.images.masks import binary_mask
from lib.images.outlines import draw_prediction
from lib.images.png import encode_png, write_png
from lib.networks.trained_network import TrainedNetwork
from lib.prediction.found_images import FoundImage, Foveae
from lib.prediction.image_file import Prediction, predict_file
from lib.prediction.measurement import measure
from lib.prediction.measurements_table import MeasurementsTable, provenance, table_columns
from lib.runtime.atomic_files import write_text
from lib.runtime.errors import UserError
from lib.runtime.progress import progress

RESULTS = ("_probability.png", "_mask.png", "_overlay.png", ".json")
"""Endings of the files that an image leaves; the last is written last."""


Compute = Callable[[Sequence[FoundImage]], Iterable[tuple[FoundImage, dict[str, Any] | str]]]


def predict_images(
    network: TrainedNetwork,
    images: Sequence[FoundImage],
    output: Path,
    foveae: Foveae,
    elsewhere: Compute | None = None,
) -> tuple[Path, list[str]]:
    """Predict each image and leave its results in `output`; a bad file does not stop the others.

    An image whose row and files are there, under these settings and newer than itself, is left out: what
    was interrupted goes on.

    Args:
        network: what predicts.
        images: of different names.
        output: folder of the results; no second process may write its table.
        foveae: of the images that have one.
        elsewhere: takes the images that are left, and yields each with its row or why it has none, as
            `predict_to_files` gives them; None predicts one by one in this process.

    Returns:
        `measurements.csv`, one row an image that could be predicted, in the order of `images`, and a line
        for each that could not.
    """
    table = MeasurementsTable(output / "measurements.csv", table_columns(network))
    wanted = {image: _settings_sha256(network, foveae.get(image.file)) for image in images}
    left = [i for i in images if not (table.holds(i, wanted[i]) and _has_files(i, output))]
    one_by_one = ((i, predict_to_files(network, i, output, foveae.get(i.file))) for i in left)
    table.drop(left)
    failures = {}
    with table.being_written(images):
        found = elsewhere(left) if elsewhere else one_by_one
        for image, outcome in progress(found, "predicting", len(left)):
            if isinstance(outcome, str):
                failures[image] = outcome
            else:
                table.add(image, outcome, wanted[image])
    return table.file, [failures[image] for image in images if image in failures]


def predict_to_files(
    network: TrainedNetwork, image: FoundImage, output: Path, fovea: tuple[float, float] | None
) -> dict[str, Any] | str:
    """Predict one image and write its files; returns its row of the table, or why it has none."""
    try:
        prediction = predict_file(network, image.file)
        return write_results(network, image, prediction, output, fovea)
    except UserError as error:
        return str(error)


def _has_files(image: FoundImage, output: Path) -> bool:
    """Whether its results are there, and newer than the image."""
    try:
        changed = image.file.stat().st_mtime
        files = (output / f"{image.name}{ending}" for ending in RESULTS)
        return all(file.stat().st_mtime >= changed for file in files)
    except OSError:
        return False


def _settings_sha256(network: TrainedNetwork, fovea: tuple[float, float] | None) -> str:
    """Of all that a row rests on but for the image, so that no row of other settings is kept."""
    names = [f.name for f in dataclasses.fields(network) if f.name != "predict"]
    settings = [*((name, getattr(network, name)) for name in names), fovea]
    return hashlib.sha256(repr(settings).encode()).hexdigest()


def write_results(
    network: TrainedNetwork,
    image: FoundImage,
    prediction: Prediction,
    output: Path,
    fovea: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Probability map, mask, overlay and LabelMe file of one image; returns its row of the table."""
    field_of_view, probability = prediction.field_of_view, prediction.probability
    mask = binary_mask(probability, field_of_view, network.threshold, network.min_area_px)
    measured = measure(
        mask,
        probability,
        field_of_view,
        pixel_spacing_mm=prediction.pixel_spacing_mm,
        fovea=fovea,
    )
    levels = np.rint(probability * 65535).astype(np.uint16)
    write_png(output / f"{image.name}_probability.png", levels)
    write_png(output / f"{image.name}_mask.png", mask.astype(np.uint8) * 255)
    picture = draw_prediction(prediction.original, mask, field_of_view)
    write_png(output / f"{image.name}_overlay.png", picture)
    is_dicom = image.file.suffix.lower() in {".dcm", ".dicom"}  # LabelMe cannot read it
    document = labelme_document(
        mask,
        network.label,
        os.path.relpath(image.file, output),
        image_png=encode_png(prediction.original) if is_dicom else None,
    )
    write_text(output / f"{image.name}.json", json.dumps(document, ensure_ascii=False) + "\n")
    return {**measured, **provenance(network, prediction)}
