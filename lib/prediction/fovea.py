"""Positions of the fovea, from the option --fovea."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from lib.prediction.found_images import FoundImage
from lib.runtime.errors import UserError, raise_all

Foveae = Mapping[Path, tuple[float, float]]
"""Row and column of the fovea of each image file."""


def read_foveae(text: str | None, images: Sequence[FoundImage]) -> Foveae:
    """Read `ROW,COL` for a single image, or the name of a CSV file with the columns image, row, column.

    Raises:
        UserError: the text is neither of them, or it is one position for several images.
    """
    if text is None:
        return {}
    if text.lower().endswith(".csv"):
        return _read_table(Path(text), images)
    try:
        row, column = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--fovea {text}: expected ROW,COL, e.g. 384,400, or FILE.csv") from None
    if len(images) > 1:
        raise UserError(f"--fovea {text}: one position, {len(images)} images; give a CSV file")
    return {images[0].file: (row, column)}


def _read_table(file: Path, images: Sequence[FoundImage]) -> Foveae:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            positions = {
                row["image"]: (float(row["row"]), float(row["column"])) for row in csv.DictReader(stream)
            }
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{file}: expected columns image,row,column ({error!r})") from None
    files = {image.file.name: image.file for image in images}
    unknown = [f"{name}: no such image" for name in positions if name not in files]
    raise_all(unknown, f"{file} names other images")
    return {files[name]: position for name, position in positions.items()}
