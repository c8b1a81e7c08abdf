"""measurements.csv, area_sizes.csv (one row per area) and review_order.csv, for spreadsheets and scripts."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from lib.networks.trained_network import TrainedNetwork
from lib.prediction.certainty.image_quality import image_quality
from lib.prediction.certainty.review_order import REVIEW_COLUMNS, in_review_order, review_row
from lib.prediction.image_file import Prediction, differences_from_training
from lib.prediction.measurement import Measurement

MEASUREMENTS, AREA_SIZES = "measurements.csv", "area_sizes.csv"

DIFFERENCES = "differs_from_training"
"""Column that says how an image differs from those of the training; empty if it does not."""

QUALITY, GOOD = "quality", "good"
"""Column with the faults of an image, joined by "; ", and its text if there are none."""


def provenance(network: TrainedNetwork, prediction: Prediction) -> Measurement:
    """How the measurements were made, for the last columns of the table."""
    spacing = prediction.pixel_spacing_mm
    differences = differences_from_training(network, prediction)
    degrees = network.testing_settings.test_field_of_view_degrees
    quality = image_quality(prediction.original, prediction.field_of_view)
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
        DIFFERENCES: "; ".join(differences.values()),
        QUALITY: "; ".join([*quality.faults, *differences]) or GOOD,
        **({"field_of_view_degrees": degrees} if degrees else {}),
    }


def print_differences(file: Path, row: Measurement) -> None:
    """Print one line if the image differs from those of the training; above the progress bar."""
    if differences := row[DIFFERENCES]:
        tqdm.write(f"{file}: less reliable: {differences}")


def write_tables(
    entries: Iterable[Mapping[str, Any]], measurements: Path, area_sizes: Path, order: Path
) -> None:
    """Write the three tables, from entries of the record (`lib.prediction.results_record`), in their order.

    The files begin with a byte order mark: without it, Excel does not read UTF-8. Rows of networks with
    different columns are in one table; a value that a row lacks is empty.
    """
    rows, to_review = [], []
    with _open(area_sizes) as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "area", "area_px"])
        for entry in entries:
            sizes = enumerate(entry["area_sizes_px"], 1)
            writer.writerows([entry["image"], number, size] for number, size in sizes)
            rows.append(_row(entry))
            to_review += [row] if (row := review_row(entry)) else []
    columns = dict.fromkeys(name for row in rows for name in row)
    last = [name for name in columns if name.endswith(("_file", "image_sha256", "settings_sha256"))]
    with _open(measurements) as stream:
        table = csv.DictWriter(stream, [*(c for c in columns or ["image"] if c not in last), *last])
        table.writeheader()
        table.writerows(rows)
    with _open(order) as stream:
        table = csv.DictWriter(stream, REVIEW_COLUMNS)
        table.writeheader()
        table.writerows({k: _cell(v) for k, v in row.items()} for row in in_review_order(to_review))


def not_a_formula(text: str) -> str:
    """Quote a text that a spreadsheet would execute as a formula."""
    return f"'{text}" if text[:1] in tuple("=+-@\t\r＝＋－＠") else text


def _row(entry: Mapping[str, Any]) -> dict[str, str]:
    files = {f"{kind}_file": name for kind, (name, _) in entry["files"].items()}
    hashes = {name: entry[name] for name in ("image_sha256", "settings_sha256")}
    values = {"image": entry["image"], **entry["measurements"], **files, **hashes}
    return {name: _cell(value) for name, value in values.items()}


def _open(file: Path) -> TextIO:
    return file.open("w", encoding="utf-8-sig", newline="")


def _cell(value: float | str | None) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return not_a_formula(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)
