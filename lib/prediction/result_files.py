"""The result files of one image: pictures, LabelMe file, and DICOM objects on request."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.figures.prediction_overlay import draw_prediction
from lib.images.checked_files import dicom_functions
from lib.images.labelme import labelme_document
from lib.images.masks import binary_mask
from lib.images.png import encode_png
from lib.networks.trained_network import TrainedNetwork
from lib.prediction.certainty.disagreement import disagreement_picture, uncertainty
from lib.prediction.found_images import FoundImage
from lib.prediction.image_file import Prediction
from lib.prediction.measurement import Measurement, area_sizes, measure
from lib.prediction.measurements_table import provenance
from lib.runtime.errors import UserError

ENDINGS = {
    "probability": "_probability.png",
    "mask": "_mask.png",
    "overlay": "_overlay.png",
    "labelme": ".json",
    "disagreement": "_disagreement.png",
    "segmentation": "_seg.dcm",
    "structured_report": "_sr.dcm",
}
"""Kind of each result file, and the ending of its name. A single view has no disagreement; the last two are
on request, for DICOM files only."""

DicomObjects = Callable[[Path, str, np.ndarray, Measurement], dict[str, bytes]]
"""`lib.prediction.reports.dicom_objects.dicom_objects`, which needs a package that may be missing."""


@dataclass(frozen=True, eq=False)
class Result:
    """What is kept of the prediction of one image.

    Attributes:
        image_sha256: SHA-256 of the image file.
        measurements: its row of the table.
        area_sizes_px: pixels of each area, largest first.
        contents: the bytes of each result file, by kind.
        dicom_fault: why there are no DICOM objects; "" if there are, or if none were asked for.
    """

    image_sha256: str
    measurements: Measurement
    area_sizes_px: list[int]
    contents: dict[str, bytes]
    dicom_fault: str = ""


def file_names(image: FoundImage) -> dict[str, str]:
    """Name of each possible result file of an image, by kind."""
    return {kind: f"{image.name}{ending}" for kind, ending in ENDINGS.items()}


def encode_result(
    network: TrainedNetwork,
    image: FoundImage,
    image_sha256: str,
    prediction: Prediction,
    fovea: tuple[float, float] | None = None,
    dicom_objects: DicomObjects | None = None,
) -> Result:
    """Measure the prediction of an image, and encode its files; `dicom_objects` encodes those of DICOM files.

    Raises:
        UserError: the fovea lies outside the image.
    """
    mask = binary_mask(
        prediction.probability, prediction.field_of_view, network.threshold, network.min_area_px
    )
    try:
        row = _measured(network, prediction, mask, fovea) | provenance(network, prediction)
    except UserError as error:
        raise UserError(f"{image.file}: {error}") from error
    contents, dicom_fault = _encoded(network, image, prediction, mask), ""
    if dicom_objects and dicom_functions(image.file):
        try:
            contents |= dicom_objects(image.file, image_sha256, mask, row)
        except UserError as error:
            dicom_fault = str(error)
    return Result(image_sha256, row, area_sizes(mask), contents, dicom_fault)


def _measured(
    network: TrainedNetwork, prediction: Prediction, mask: np.ndarray, fovea: tuple[float, float] | None
) -> Measurement:
    """The measurements; the range of the share follows the share."""
    measured = measure(
        mask,
        prediction.probability,
        prediction.field_of_view,
        pixel_spacing_mm=prediction.pixel_spacing_mm,
        fovea=fovea,
        share=network.share_column,
    )
    uncertain = uncertainty(
        prediction.probability,
        prediction.disagreement,
        prediction.field_of_view,
        network.threshold,
        network.min_area_px,
        network.share_column,
    )
    names = list(measured)
    first = names[: names.index(network.share_column) + 1]
    return {**{name: measured[name] for name in first}, **uncertain, **measured}


def _encoded(
    network: TrainedNetwork, image: FoundImage, prediction: Prediction, mask: np.ndarray
) -> dict[str, bytes]:
    """The bytes of each picture and of the LabelMe file, by kind."""
    overlay = draw_prediction(
        prediction.original,
        mask,
        prediction.field_of_view,
        threshold=network.threshold,
        share_column=network.share_column,
        pixel_spacing_mm=prediction.pixel_spacing_mm,
    )
    pictures = {
        "overlay": overlay,
        "original": prediction.original,
        "probability": np.rint(prediction.probability * 65535).astype(np.uint16),
        "mask": mask.astype(np.uint8) * 255,
    }
    if prediction.disagreement is not None:
        pictures["disagreement"] = disagreement_picture(prediction.disagreement)
    with ThreadPoolExecutor(2) as pool:
        contents = dict(zip(pictures, pool.map(encode_png, pictures.values()), strict=True))
    # With the picture in it, LabelMe opens the file wherever it is moved, and for all kinds of images.
    document = labelme_document(mask, network.label, image.path, image_png=contents.pop("original"))
    # Bytes of a path that are not UTF-8 are written as escapes, which JSON can read.
    text = json.dumps(document, ensure_ascii=False) + "\n"
    contents["labelme"] = text.encode("utf-8", "backslashreplace")
    return {kind: contents[kind] for kind in ENDINGS if kind in contents}  # the order of the columns
