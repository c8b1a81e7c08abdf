"""Search for image files in folders, and the names of their results."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from itertools import chain, count
from pathlib import Path

from lib.images.reading import is_image_file, passed_over
from lib.runtime.errors import raise_all

LONGEST_NAME = 200
"""Bytes of the name of an image in the names of its results; a file system allows 255 for the whole name."""


@dataclasses.dataclass(frozen=True)
class FoundImage:
    """An image file, and the first part of the names of its results."""

    file: Path
    name: str


def find_images(given: Sequence[Path], output: Path) -> list[FoundImage]:
    """The given files, and all images in the given folders and their subfolders, except those in `output`.

    Files with the same name, from several folders or in several formats, are numbered.

    Raises:
        UserError: lists paths that do not exist, and folders without an image.
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
    numbered: dict[str, Iterator[str]] = {}
    for file in dict.fromkeys(files):
        stem = _shortened(file.stem)
        names = numbered.setdefault(stem, chain([stem], (f"{stem}_{n}" for n in count(2))))
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
        files = [Path(parent, name) for name in names]
        if line := passed_over(files):
            print(f"{parent}: {line}")
        yield from filter(is_image_file, files)
