"""measurements.csv: one row an image, kept whole whatever ends the process."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from lib.networks.trained_network import TrainedNetwork
from lib.prediction.found_images import FoundImage
from lib.prediction.image_file import Prediction
from lib.prediction.measurement import measure
from lib.runtime.atomic_files import written_atomically

TEXT = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}


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


def table_columns(network: TrainedNetwork) -> list[str]:
    """The table's, as one black pixel has them."""
    pixel = np.zeros((1, 1), np.uint8)
    prediction = Prediction(pixel, pixel, np.float32(pixel), None, None)
    measured = measure(pixel > 0, prediction.probability, pixel)
    return ["image", *measured, *provenance(network, prediction), "settings_sha256"]


class MeasurementsTable:
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
        values = [str(image.file), *map(_cell, row.values()), settings_sha256]
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
        with written_atomically(self.file) as (beside,), beside.open("w", **TEXT) as stream:
            csv.writer(stream).writerow(self._columns)
            stream.writelines(self._lines.get(str(image.file), "") for image in images)


def _cell(value: object) -> object:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value
