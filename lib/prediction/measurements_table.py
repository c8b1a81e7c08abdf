"""measurements.csv: one row per image; an interruption loses no row."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Literal, TextIO

import numpy as np
from tqdm import tqdm

from lib.networks.trained_network import TrainedNetwork
from lib.prediction.found_images import FoundImage
from lib.prediction.image_file import Prediction, differences_from_training
from lib.prediction.measurement import Measurement, measure
from lib.runtime.atomic_files import written_atomically

DIFFERENCES = "differs_from_training"
"""Column that says how an image differs from those of the training; empty if it does not."""


def provenance(network: TrainedNetwork, prediction: Prediction) -> Measurement:
    """How the measurements were made, for the last columns of the table."""
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
        "structure": network.structure,
        DIFFERENCES: differences_from_training(network, prediction),
    }


def print_differences(image: FoundImage, row: Measurement) -> None:
    """Print one line if the image differs from those of the training; above the progress bar."""
    if differences := row[DIFFERENCES]:
        tqdm.write(f"{image.file}: less reliable: {differences}")


def table_columns(network: TrainedNetwork) -> list[str]:
    """Names of the columns, from the measurements of an image of one black pixel."""
    pixel = np.zeros((1, 1), np.uint8)
    prediction = Prediction(pixel, pixel, pixel.astype(np.float32), None, None)
    measured = measure(pixel > 0, prediction.probability, pixel, share=network.share_column)
    return ["image", *measured, *provenance(network, prediction), "settings_sha256"]


class MeasurementsTable:
    """`measurements.csv`, always complete; new rows are first added to `measurements.partial.csv`.

    Rows are only appended to the partial file, so that a killed process loses no row.
    """

    def __init__(self, file: Path, columns: Sequence[str]) -> None:
        self.file, self._columns = file, list(columns)
        self._partial_file = file.with_name("measurements.partial.csv")
        # As lines of text: 100 000 rows of 45 values would take a quarter of a GB.
        self._lines: dict[str, str] = {}
        self._settings: dict[str, str] = {}
        for earlier in (file, self._partial_file):
            self._read(earlier)

    def _read(self, file: Path) -> None:
        if not file.is_file():
            return
        with _open(file, "r") as stream:
            rows = csv.reader(stream)
            if next(rows, None) == self._columns:
                for row in rows:
                    if len(row) == len(self._columns):  # a power cut leaves a part of the last row
                        self._keep(row)

    def _keep(self, row: Sequence[str]) -> str:
        text = StringIO()
        csv.writer(text).writerow(row)
        self._settings[row[0]], self._lines[row[0]] = row[-1], text.getvalue()
        return text.getvalue()

    def has_row(self, image: FoundImage, settings_sha256: str) -> bool:
        """Whether the table has a row of the image that was made with these settings."""
        return self._settings.get(str(image.file)) == settings_sha256

    def drop_rows(self, images: Iterable[FoundImage]) -> None:
        """Remove the rows of these images."""
        for image in images:
            self._lines.pop(str(image.file), None)

    def add_row(self, image: FoundImage, row: Measurement, settings_sha256: str) -> None:
        """Add or replace a row; only inside `open_for_rows`."""
        values = [str(image.file), *map(_cell, row.values()), settings_sha256]
        self._stream.write(self._keep(values))
        self._stream.flush()

    @contextmanager
    def open_for_rows(self, images: Sequence[FoundImage]) -> Iterator[None]:
        """Accept rows; at the end, or at an interruption, write the rows of `images` in their order."""
        self._write(images)
        with _open(self._partial_file, "w") as self._stream:
            csv.writer(self._stream).writerow(self._columns)
            try:
                yield
            finally:
                self._write(images)
        self._partial_file.unlink()

    def _write(self, images: Sequence[FoundImage]) -> None:
        with written_atomically(self.file) as (temporary,), _open(temporary, "w") as stream:
            csv.writer(stream).writerow(self._columns)
            stream.writelines(self._lines.get(str(image.file), "") for image in images)


def _open(file: Path, mode: Literal["r", "w"]) -> TextIO:
    return file.open(mode, encoding="utf-8", errors="backslashreplace", newline="")


def _cell(value: float | str | None) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
