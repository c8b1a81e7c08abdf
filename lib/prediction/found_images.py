"""Image files found in folders, what their results are called, and where the fovea lies."""

import csv
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count
from pathlib import Path

from lib.images.reading import IMAGE_SUFFIXES
from lib.runtime.errors import UserError, raise_all

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
