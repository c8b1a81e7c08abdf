"""Positions of the fovea, from the option --fovea."""

import csv
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path, PurePosixPath

from lib.images.reading import composed
from lib.prediction.found_images import FoundImage
from lib.runtime.errors import UserError, raise_all

Foveae = Mapping[Path, tuple[float, float]]
"""Row and column of the fovea of each image file."""

COLUMNS = ("image", "row", "column")


def read_foveae(text: str | None, images: Sequence[FoundImage]) -> Foveae:
    """Read `ROW,COL` for a single image, or the name of a CSV file with the columns image, row, column.

    In the file, `image` is the name of an image file; or its path, whole or only the last folders, which
    tells files of one name apart. The file is UTF-8, or GB 18030 (Chinese Windows).

    Raises:
        UserError: the text is neither of them, or it is one position for several images; or lists the lines
            of the file that cannot be read, name no image or several, or name an image twice.
    """
    if text is None:
        return {}
    if text.lower().endswith(".csv"):
        return _read_table(Path(text), images)
    try:
        row, column = (_number(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--fovea {text}: expected ROW,COL, e.g. 384,400, or FILE.csv") from None
    if len(images) > 1:
        raise UserError(f"--fovea {text}: one position, {len(images)} images; give a CSV file")
    return {images[0].file: (row, column)}


def _read_table(file: Path, images: Sequence[FoundImage]) -> Foveae:
    reader = csv.DictReader(StringIO(_text_of(file), newline=""))
    if missing := set(COLUMNS).difference(reader.fieldnames or ()):
        found = ",".join(reader.fieldnames or ())[:80]
        raise UserError(
            f"{file}: no column {sorted(missing)[0]}: expected {','.join(COLUMNS)}, found {found!r}"
        )
    by_name = _by_name(images)
    positions: dict[Path, tuple[float, float]] = {}
    lines: dict[Path, int] = {}
    faults = []
    for row in _rows(reader, file):
        further = row.pop(None, ())
        if not any((*row.values(), *further)):  # Excel leaves lines of commas
            continue
        try:
            if any(further):
                raise UserError(f"more than {len(reader.fieldnames or ())} fields; write 1.5, not 1,5")
            image = _named(row["image"] or "", by_name)
            if image in positions:
                raise UserError(f"{image}: already in line {lines[image]}")
            positions[image] = _position(row)
            lines[image] = reader.line_num
        except UserError as error:
            faults.append(f"line {reader.line_num}: {error}")
    raise_all(faults, str(file))
    return positions


def _rows(reader: csv.DictReader, file: Path) -> Iterator[dict]:
    try:
        yield from reader
    except csv.Error as error:
        raise UserError(f"{file}: line {reader.line_num}: not a CSV file ({error})") from None


def _text_of(file: Path) -> str:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); expected a CSV file") from None
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise UserError(f"{file}: expected text in UTF-8 or GB 18030; save it as UTF-8")


def _by_name(images: Sequence[FoundImage]) -> dict[str, list[FoundImage]]:
    found: dict[str, list[FoundImage]] = {}
    for image in images:
        found.setdefault(composed(PurePosixPath(image.text).name), []).append(image)
    return found


def _named(text: str, by_name: Mapping[str, Sequence[FoundImage]]) -> Path:
    """The image that a name or path means; folders are compared from the last one backwards."""
    path = PurePosixPath(composed(text.strip()).replace("\\", "/"))
    parts = [p for p in path.parts if p not in {"/", "..", "."}]
    candidates = by_name.get(parts[-1], ()) if parts else ()
    exact = [image for image in candidates if text in {image.text, str(image.file)}]
    ending = [image for image in candidates if _parts(image)[-len(parts) :] == parts]
    found = exact or ending
    if len(found) == 1:
        return found[0].file
    if not found:
        raise UserError(f"{text}: no such image")
    names = ", ".join(str(image.file) for image in found)
    raise UserError(f"{text}: {len(found)} images have this name ({names}); write folder and name")


def _parts(image: FoundImage) -> list[str]:
    *folders, _ = Path(os.path.normpath(image.file.absolute())).parts[1:]
    return [*map(composed, folders), composed(PurePosixPath(image.text).name)]


def _position(row: Mapping[str, str | None]) -> tuple[float, float]:
    try:
        return _number(row["row"]), _number(row["column"])
    except ValueError:
        found = f"{row['row']},{row['column']}"
        raise UserError(
            f"{row['image']}: expected two numbers, row and column, found {found[:80]!r}"
        ) from None


def _number(text: str | None) -> float:
    number = float(text or "")
    if not math.isfinite(number):
        raise ValueError
    return number
