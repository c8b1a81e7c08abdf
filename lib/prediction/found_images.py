"""Search for image files in folders, and the names of their results."""

import dataclasses
import functools
import hashlib
import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path, PurePosixPath

from lib.images.reading import image_name, is_image_file, passed_over
from lib.prediction.results_record import written_files
from lib.runtime.errors import UserError, raise_all

LONGEST_NAME = 180
"""Bytes of the readable part of a result's name; a file system allows 255 for the whole name."""

DIGITS = 12
"""Digits of SHA-256 in a result's name; 100 000 images of one name have equal ones with probability 2e-5."""

RESULT_NAME = re.compile(
    rf"-[0-9a-f]{{{DIGITS}}}_(mask|overlay|probability|disagreement)\.png$|-[0-9a-f]{{{DIGITS}}}_(seg|sr)\.dcm$"
)
"""Names of results, which were perhaps copied without their record."""

ResultsIn = Callable[[Path], frozenset[str]]
"""The names of results in a folder."""


@dataclasses.dataclass(frozen=True)
class FoundImage:
    """An image file, and its path as seen from the output folder, from which the names of its results follow.

    Attributes:
        file: the file.
        path: path relative to the output folder, without symbolic links to folders.
    """

    file: Path
    path: str

    @classmethod
    def of(cls, file: Path, output: Path) -> "FoundImage":
        """An image whose results are written to the folder `output`."""
        whole = Path(os.path.realpath(file.parent), file.name)
        return cls(file, os.path.relpath(whole, os.path.realpath(output)))

    @property
    def text(self) -> str:
        """The path in tables: bytes that are not UTF-8 as escapes; no spreadsheet takes it for a formula."""
        text = os.fsencode(self.path).decode("utf-8", "backslashreplace")
        return text if re.match(r"[\w./]", text) else f"./{text}"

    @property
    def name(self) -> str:
        """First part of the names of the results: folder and name of the image, digits of its path's SHA-256.

        It depends on nothing but the path: no other image changes it. Characters that a file system or a
        shell treats specially are replaced.
        """
        *folders, last = (part for part in PurePosixPath(self.path).parts if part != "..")
        readable = "_".join([*folders[-1:], image_name(PurePosixPath(last))])
        readable = re.sub(r"[^\w.-]+", "_", readable).lstrip("-.")
        digits = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:DIGITS]
        return f"{_shortened(readable)}-{digits}"


def find_images(given: Sequence[Path], output: Path) -> list[FoundImage]:
    """The given files, and all images in the given folders and their subfolders, for results in `output`.

    Files that an earlier prediction wrote are left out, and their number is printed. Names that begin with a
    full stop are those of temporary files, and of notes of macOS.

    Raises:
        UserError: `output` is a file; lists paths that do not exist, folders that cannot be read or hold no
            image, and images whose results would have the same names.
    """
    if output.exists() and not output.is_dir():
        raise UserError(
            f"--output {output}: is a file; expected a folder, which is made if it does not exist"
        )
    results_in = functools.cache(_results_in)
    faults, files = [], []
    for path in given:
        if path.is_dir():
            unreadable: list[OSError] = []
            inside = sorted(_images_below(path, results_in, unreadable.append))
            faults += [f"{error.filename}: cannot be read ({error.strerror})" for error in unreadable]
            faults += [] if inside or unreadable else [f"{path}: holds no image"]
            files += inside
        elif path.exists():
            files.append(path)
        else:
            faults.append(f"{path}: no such file or folder{_unquoted(path, given)}")
    raise_all(faults, "nothing predicted")
    originals = _without_results(files, results_in)
    if not originals:
        raise UserError("nothing predicted: all images found are results of run_prediction.py")
    found: dict[str, FoundImage] = {}
    for image in (FoundImage.of(file, output) for file in originals):
        first = found.setdefault(image.text, image)
        if first.path != image.path:
            faults.append(f"{first.file!a} and {image.file!a}: the same name as text; rename one")
    raise_all(faults, "nothing predicted")
    _refuse_equal_names(found.values())
    return list(found.values())


def _refuse_equal_names(images: Iterable[FoundImage]) -> None:
    names: dict[str, FoundImage] = {}
    pairs = ((names.setdefault(image.name, image), image) for image in images)
    equal = [f"{one.file} and {other.file}" for one, other in pairs if one is not other]
    raise_all(equal, "nothing predicted: results would have the same names; rename one image")


def _unquoted(path: Path, given: Sequence[Path]) -> str:
    """A hint, if `path` and its neighbours on the command line are one existing path with blanks."""
    parts = [str(one) for one in given]
    for first, last in combinations(range(len(parts) + 1), 2):
        joined = " ".join(parts[first:last])
        if last - first > 1 and str(path) in parts[first:last] and Path(joined).exists():
            return f"; a path with blanks needs quotes: {shlex.quote(joined)}"
    return ""


def _without_results(files: Sequence[Path], results_in: ResultsIn) -> list[Path]:
    """Leave out the files that an earlier prediction wrote."""

    def is_result(file: Path) -> bool:
        return file.name in results_in(file.parent) or bool(RESULT_NAME.search(file.name))

    originals = [file for file in files if not is_result(file)]
    left_out = Counter(file.parent for file in files if is_result(file))
    for folder, number in left_out.items():
        print(f"{folder}: {number} images left out: results of an earlier prediction")
    return originals


def _results_in(folder: Path) -> frozenset[str]:
    """Names of results in a folder, from the record beside them.

    Version 0.1.0 wrote a table but no record; its results are known by the four files of each image.
    """
    found = written_files(folder)
    if (folder / "measurements.csv").is_file() or (folder / "measurements_earlier.csv").is_file():
        there = {file.name for file in folder.iterdir()}
        for labelme in (name for name in there if name.endswith(".json")):
            four = {labelme, *(f"{labelme[:-5]}_{kind}.png" for kind in ("mask", "overlay", "probability"))}
            found |= four if four <= there else set()
    return frozenset(found)


def _shortened(name: str) -> str:
    while len(os.fsencode(name)) > LONGEST_NAME:
        name = name[:-1]
    return name


def _is_of_the_system(folder: str) -> bool:
    """Whether deleted files, snapshots or thumbnails are in a folder of this name (Linux, Windows, NAS)."""
    names = {"@eaDir", "#recycle", "#snapshot", "$RECYCLE.BIN", "System Volume Information"}
    return folder.startswith(".") or folder in names


def _images_below(
    folder: Path, results_in: ResultsIn, unreadable: Callable[[OSError], None]
) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, onerror=unreadable):
        for hidden in sorted(name for name in folders if _is_of_the_system(name)):
            print(f"{Path(parent, hidden)}: a hidden folder or one of the system, not searched")
            folders.remove(hidden)
        for linked in sorted(name for name in folders if Path(parent, name).is_symlink()):
            print(f"{Path(parent, linked)}: a link to a folder, which is not followed")
        files = [Path(parent, name) for name in names]
        own = results_in(Path(parent))
        if line := passed_over(file for file in files if file.name not in own):
            print(f"{parent}: {line}")
        yield from filter(is_image_file, files)
