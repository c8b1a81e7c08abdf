"""Prediction of many files, one at a time: what is found in folders, what is left of each, the table."""

import csv
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np

from lib.images.labelme import labelme_document
from lib.images.masks import binary_mask
from lib.images.outlines import outlined
from lib.images.png import encode_png, write_png
from lib.images.reading import IMAGE_SUFFIXES
from lib.measurement import measure
from lib.networks.trained_network import TrainedNetwork
from lib.prediction import Prediction, predict_file
from lib.runtime.atomic_files import write_text, written_beside
from lib.runtime.errors import UserError, raise_all
from lib.runtime.progress import progress

Foveae = Mapping[Path, tuple[float, float]]
RESULTS = ("_probability.png", "_mask.png", "_overlay.png", ".json")
"""Endings of the files that an image leaves; the last is written last."""
TEXT = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}

LONGEST_NAME = 200
"""Bytes of an image's name in the names of its results, of which a file system allows 255."""


@dataclasses.dataclass(frozen=True)
class FoundImage:
    """An image file, and what its results are called."""

    file: Path
    name: str


Compute = Callable[[Sequence[FoundImage]], Iterable[tuple[FoundImage, dict[str, Any] | str]]]


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
    table = _Table(output / "measurements.csv", _columns(network))
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
    picture = outlined(prediction.original, mask, field_of_view)
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


def _columns(network: TrainedNetwork) -> list[str]:
    """The table's, as one black pixel has them."""
    pixel = np.zeros((1, 1), np.uint8)
    prediction = Prediction(pixel, pixel, np.float32(pixel), None, None)
    measured = measure(pixel > 0, prediction.probability, pixel)
    return ["image", *measured, *provenance(network, prediction), "settings_sha256"]


class _Table:
    """`measurements.csv`: whole whenever it is there; rows not yet in it stand in a file beside it.

    That file only grows, so that whatever ends the process costs no row.
    """

    def __init__(self, file: Path, columns: Sequence[str]) -> None:
        self.file, self._columns = file, columns
        self._added = file.with_name("measurements.partial.csv")
        # As lines of text: 100 000 rows of 45 values would take a quarter of a GB.
        self._lines: dict[str, str] = {}
        self._settings: dict[str, str] = {}
        for before in (file, self._added):
            self._read(before)

    def _read(self, file: Path) -> None:
        if not file.is_file():
            return
        with file.open(**TEXT) as stream:
            rows = csv.reader(stream)
            if next(rows, None) == self._columns:
                for row in rows:
                    if len(row) == len(self._columns):  # a power cut tears the last
                        self._put(row)

    def _put(self, row: Sequence[object]) -> str:
        text = StringIO()
        csv.writer(text).writerow(row)
        self._settings[row[0]], self._lines[row[0]] = row[-1], text.getvalue()
        return text.getvalue()

    def holds(self, image: FoundImage, settings_sha256: str) -> bool:
        """Whether it has the row of the image under these settings."""
        return self._settings.get(str(image.file)) == settings_sha256

    def drop(self, images: Iterable[FoundImage]) -> None:
        """Forget their rows."""
        for image in images:
            self._lines.pop(str(image.file), None)

    def add(self, image: FoundImage, row: Mapping[str, Any], settings_sha256: str) -> None:
        """Add or replace a row; to be called within `being_written`."""
        values = [str(image.file), *map(_shown, row.values()), settings_sha256]
        self._stream.write(self._put(values))
        self._stream.flush()

    @contextmanager
    def being_written(self, images: Sequence[FoundImage]) -> Iterator[None]:
        """Take rows; at the end, and where it is interrupted, the table has those of `images` in order."""
        self._write(images)
        with self._added.open("w", **TEXT) as self._stream:
            csv.writer(self._stream).writerow(self._columns)
            try:
                yield
            finally:
                self._write(images)
        self._added.unlink()

    def _write(self, images: Sequence[FoundImage]) -> None:
        with written_beside(self.file) as (beside,), beside.open("w", **TEXT) as stream:
            csv.writer(stream).writerow(self._columns)
            stream.writelines(self._lines.get(str(image.file), "") for image in images)


def _shown(value: object) -> object:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value
