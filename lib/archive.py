"""Prediction of many files, one at a time: what is found in folders, what is left of each, the table."""

import csv
import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lib.files import write_text, written_beside
from lib.images import IMAGE_SUFFIXES, write_png
from lib.labelme import labelme_document
from lib.measurement import binary_mask, measure
from lib.outlines import outlined
from lib.prediction import Prediction, predict_file
from lib.progress import progress
from lib.trained_network import TrainedNetwork
from lib.user_errors import UserError, raise_all

Foveae = Mapping[Path, tuple[float, float]]

LONGEST_NAME = 200
"""Bytes of an image's name in the names of its results, of which a file system allows 255."""


@dataclasses.dataclass(frozen=True)
class FoundImage:
    """An image file, and what its results are called."""

    file: Path
    name: str


def find_images(given: Sequence[Path], output: Path) -> list[FoundImage]:
    """The given files, and all images in and below the given folders but for those in `output`.

    Files of the same name, from several folders or of several formats, are numbered.

    Raises:
        UserError: lists what is not there, and folders without an image.
    """
    faults, files = [], []
    for path in given:
        if path.is_dir():
            inside = sorted(_images_below(path, os.path.realpath(output)))
            faults += [] if inside else [f"{path}: holds no image"]
            files += inside
        elif path.exists():
            files.append(path)
        else:
            faults.append(f"{path}: no such file or folder")
    raise_all(faults, "nothing predicted")
    found: dict[str, FoundImage] = {}
    free: dict[str, Iterator[str]] = {}
    for file in dict.fromkeys(files):
        stem = _shortened(file.stem)
        names = free.setdefault(stem, chain([stem], (f"{stem}_{number}" for number in count(2))))
        name = next(name for name in names if name not in found)
        found[name] = FoundImage(file, name)
    return list(found.values())


def _shortened(stem: str) -> str:
    while len(os.fsencode(stem)) > LONGEST_NAME:
        stem = stem[:-1]
    return stem


def _images_below(folder: Path, output: str) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):  # follows no symbolic link to a folder
        folders[:] = [f for f in folders if os.path.realpath(Path(parent, f)) != output]
        yield from (Path(parent, n) for n in names if Path(n).suffix.lower() in IMAGE_SUFFIXES)


def read_fovea(text: str | None, images: Sequence[FoundImage]) -> Foveae:
    """Where the fovea of each image lies, from `ROW,COL` or a CSV file with columns image, row, column.

    Raises:
        UserError: neither of them, or one position for several images.
    """
    if text is None:
        return {}
    if text.lower().endswith(".csv"):
        return _fovea_table(Path(text), images)
    try:
        row, column = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--fovea {text}: expected ROW,COL, e.g. 384,400, or FILE.csv") from None
    if len(images) > 1:
        raise UserError(f"--fovea {text}: one position, {len(images)} images; give a CSV file")
    return {images[0].file: (row, column)}


def _fovea_table(file: Path, images: Sequence[FoundImage]) -> Foveae:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = {
                row["image"]: (float(row["row"]), float(row["column"]))
                for row in csv.DictReader(stream)
            }
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{file}: expected columns image,row,column ({error!r})") from None
    known = {image.file.name: image.file for image in images}
    raise_all(
        [f"{name}: no such image" for name in rows if name not in known], f"{file} names others"
    )
    return {known[name]: position for name, position in rows.items()}


def predict_images(
    network: TrainedNetwork, images: Sequence[FoundImage], output: Path, foveae: Foveae
) -> tuple[Path, list[str]]:
    """Predict each image and leave its results in `output`; a bad file does not stop the others.

    Returns:
        `measurements.csv`, one row an image that could be predicted, and a line for each that could not.
    """
    failures = []
    table = output / "measurements.csv"
    with _table(table) as write_row:
        for image in progress(images, "predicting"):
            try:
                prediction = predict_file(network, image.file)
                measured = write_results(network, image, prediction, output, foveae.get(image.file))
            except UserError as error:
                failures.append(str(error))
                continue
            write_row({"image": str(image.file), **measured})
    return table, failures


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
    picture = outlined(prediction.original, mask, field_of_view)
    write_png(output / f"{image.name}_overlay.png", picture)
    is_dicom = image.file.suffix.lower() in {".dcm", ".dicom"}  # LabelMe cannot read it
    document = labelme_document(
        mask,
        network.label,
        os.path.relpath(image.file, output),
        image_png=_png(prediction.original) if is_dicom else None,
    )
    write_text(output / f"{image.name}.json", json.dumps(document, ensure_ascii=False) + "\n")
    return {**measured, **provenance(network, prediction)}


def provenance(network: TrainedNetwork, prediction: Prediction) -> dict[str, Any]:
    """What the measurements rest on, for the last columns of the table."""
    spacing = prediction.pixel_spacing_mm
    return {
        "pixel_spacing_mm": " ".join(f"{length:g}" for length in spacing) if spacing else None,
        "banner": str(prediction.banner or ""),
        "model": network.name,
        "architecture": network.architecture,
        "weights_sha256": network.weights_sha256,
        "threshold": network.threshold,
        "threshold_source": network.threshold_source,
        "min_area_px": network.min_area_px,
    }


def _png(picture: np.ndarray) -> bytes:
    data = BytesIO()
    Image.fromarray(picture).save(data, "PNG")
    return data.getvalue()


@contextmanager
def _table(file: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yields a function that adds a row; the table appears when all is done, or was interrupted."""
    interrupted = None
    with (
        written_beside(file) as (beside,),
        beside.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        table = csv.writer(stream)

        def write_row(row: Mapping[str, Any]) -> None:
            if not stream.tell():
                table.writerow(row)
            table.writerow([_shown(value) for value in row.values()])

        try:
            yield write_row
        except KeyboardInterrupt as error:
            interrupted = error
    if interrupted:
        raise interrupted


def _shown(value: object) -> object:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value
