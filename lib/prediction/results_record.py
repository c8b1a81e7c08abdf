"""results.jsonl: the record of an output folder, from which its tables are made.

One line of JSON for each image: its path and SHA-256, the settings, the measurements, and name and SHA-256 of
each file. A line is added to results.partial.jsonl before its files get their names, so that after a
killed process each file is known as our own, and a result is complete if all its files have their SHA-256.
"""

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lib.images.checked_files import file_sha256
from lib.prediction.certainty.review_order import REVIEW_ORDER
from lib.prediction.measurements_table import AREA_SIZES, MEASUREMENTS, write_tables
from lib.prediction.reports.html_report import REPORT, write_report
from lib.runtime.atomic_files import written_atomically
from lib.runtime.errors import UserError, raise_all

RECORD, PARTIAL = "results.jsonl", "results.partial.jsonl"

TABLES = (MEASUREMENTS, AREA_SIZES, REVIEW_ORDER)
"""The tables, in the order of the arguments of `write_tables`."""

Entry = dict[str, Any]
"""A line of the record: image, image_sha256, settings_sha256, files (kind to [name, SHA-256]), measurements,
area_sizes_px."""


def written_files(folder: Path) -> set[str]:
    """Names of all files of images that the record of a folder lists; empty if it has no record."""
    entries = (entry for file in (RECORD, PARTIAL) for _, entry in _read(folder / file, strict=False))
    return {name for entry in entries for name, _ in entry.get("files", {}).values()}


def changed_labelme_files(folder: Path) -> dict[Path, tuple[Path, str]]:
    """The LabelMe files of a folder that a person has saved since they were written.

    Returns:
        Image file to its LabelMe file and the SHA-256 of the image that was predicted.

    Raises:
        UserError: the folder has no record, the record was changed, or the last prediction was interrupted.
    """
    if (folder / PARTIAL).is_file():
        raise UserError(f"{folder}: its last prediction was interrupted; run run_prediction.py again first")
    if not (folder / RECORD).is_file():
        raise UserError(f"{folder}: no {RECORD}; expected the --output folder of run_prediction.py")
    found = {}
    for _, entry in _read(folder / RECORD):
        if "tables" not in entry:
            name, written = entry["files"]["labelme"]
            file = folder / name
            if file.is_file() and file_sha256(file) != written:
                found[folder / entry["image"]] = file, entry["image_sha256"]
    return found


def image_prefixes(folder: Path) -> dict[Path, str]:
    """For each image of the record of a folder, its folders below the folder that all images share.

    They are joined by "_", and end with it: "P01_" of P01/OD.png beside P02/OD.png; "" if all images are in
    one folder. In an archive with a folder for each patient, the name of the file may lack the patient. None
    begins with a full stop: such files are hidden, and a preparation leaves them out.
    """
    images = [folder / entry["image"] for _, entry in _read(folder / RECORD) if "tables" not in entry]
    # Relative paths can have different numbers of "..", which are no folders.
    parents = [os.path.normpath(folder.resolve() / image.relative_to(folder).parent) for image in images]
    shared = os.path.commonpath(parents) if parents else ""
    below = [Path(os.path.relpath(parent, shared)).parts for parent in parents]  # () of the shared folder
    prefixes = ["".join(f"{part}_" for part in parts).lstrip(".") for parts in below]
    return dict(zip(images, prefixes, strict=True))


class FilesChanged(UserError):
    """Files that would be replaced were made or changed by a person."""


class ResultsRecord:
    """The record of one output folder; only the process that holds the lock of the folder may use it.

    Args:
        output: the folder.
        overwrite: replace files that are not our own, or were changed since.
        report: write a report with the tables. An earlier one is kept up to date, unless it was changed.

    Raises:
        UserError: the record was changed.
    """

    def __init__(self, output: Path, *, overwrite: bool, report: bool = False) -> None:
        self.output, self._overwrite = output, overwrite
        # As text: 100 000 entries of 45 values would take a quarter of a GB.
        self._complete: dict[str, str] = {}
        self._unfinished: dict[str, list[str]] = {}
        self._table_hashes: dict[str, set[str]] = {name: set() for name in (*TABLES, REPORT)}
        _set_earlier_table_aside(output)
        for file in (RECORD, PARTIAL):
            for line, entry in _read(output / file):
                if "tables" in entry:
                    self._add_table_hashes(entry["tables"])
                elif file == RECORD:
                    self._complete[entry["image"]] = line
                else:
                    self._unfinished.setdefault(entry["image"], []).append(line)
        for image in list(self._unfinished):  # of a run that was stopped
            self._complete_if_written(image)
        self._is_changed = (output / PARTIAL).is_file()  # the report may lack results of that run
        self._report = report or self._has_own_report()

    def entry(self, image: str) -> Entry | None:
        """The complete result of an image, if there is one."""
        return json.loads(self._complete[image]) if image in self._complete else None

    def refuse_changed(self, faults: Iterable[Path]) -> None:
        """Raise `FilesChanged` that lists files which are not replaced; do nothing if there are none."""
        try:
            raise_all(
                (f"{file}: not written by run_prediction.py, or changed since" for file in faults),
                "not overwritten; move it away, choose another --output, or replace it with --overwrite",
            )
        except UserError as error:
            raise FilesChanged(str(error)) from None

    def changed_files(self, image: str, names: Iterable[str]) -> list[Path]:
        """The files of an image that exist and are not as they were written."""
        own = _hashes(self._lines(image))
        return [self.output / n for n in names if self._exists(n) and (n, self._sha256(n)) not in own]

    def changed_tables(self) -> list[Path]:
        """The tables that exist and are not as they were written."""
        hashes = self._table_hashes
        return [
            f for f in self._tables() if self._exists(f.name) and self._sha256(f.name) not in hashes[f.name]
        ]

    def _tables(self) -> list[Path]:
        return [self.output / name for name in (*TABLES, *[REPORT] * self._report)]

    def begin(self, images: Collection[str]) -> None:
        """Take the rows of images that will be predicted out of the tables: a kill leaves no wrong row."""
        if any(image in self._complete for image in images):
            self._write_tables(without=set(images), report=False)

    def add(self, entry: Entry, contents: Mapping[str, bytes]) -> None:
        """Write the files of an image and keep its entry; `contents`: name of each file to its bytes.

        Raises:
            FilesChanged: a file was changed meanwhile; nothing was written.
            UserError: a file cannot be written.
        """
        image, line = entry["image"], json.dumps(entry)
        if not self._overwrite:
            self.refuse_changed(self.changed_files(image, contents))
        try:
            with written_atomically(*(self.output / name for name in contents)) as temporary:
                for file, content in zip(temporary, contents.values(), strict=True):
                    file.write_bytes(content)
                earlier = self._complete.pop(image, None)
                self._unfinished.setdefault(image, []).extend(filter(None, [earlier, line]))
                self._append(line)
                # Files of the earlier result that this one lacks.
                self._remove_own(image, except_for=contents)
        except UserError:
            self._complete_if_written(image)  # the earlier result, if its files are still there
            raise
        self._complete[image], self._is_changed = line, True
        del self._unfinished[image]

    def discard(self, image: str) -> None:
        """Remove the entry of an image, and its files if they are as they were written."""
        self._remove_own(image)
        self._is_changed = True
        self._complete.pop(image, None)
        self._unfinished.pop(image, None)

    def _remove_own(self, image: str, except_for: Collection[str] = ()) -> None:
        names = {name for name, _ in _hashes(self._lines(image))}.difference(except_for)
        for name in names.difference(file.name for file in self.changed_files(image, names)):
            (self.output / name).unlink(missing_ok=True)

    def finish(self) -> None:
        """Write the tables and the record; results that an interruption left unfinished stay known.

        Raises:
            UserError: a file cannot be written, or a table was changed meanwhile.
        """
        hashes = self._write_tables(report=self._is_changed or not self._has_own_report())
        if REPORT not in hashes and self._has_own_report() and (kept := self._sha256(REPORT)):
            hashes[REPORT] = kept
        lines = [json.dumps({"tables": hashes}), *self._sorted_lines()]
        unfinished = [line for lines in self._unfinished.values() for line in lines]
        _write_lines(self.output / RECORD, lines)
        if unfinished:
            _write_lines(self.output / PARTIAL, unfinished)
        else:
            (self.output / PARTIAL).unlink(missing_ok=True)

    def _complete_if_written(self, image: str) -> None:
        """Make the last entry of an image whose files are all there the complete one."""
        candidates = self._lines(image)
        own = _hashes(candidates)
        written = [line for line in candidates if self._is_written(json.loads(line), own)]
        if written:
            self._complete[image] = written[-1]
            self._unfinished.pop(image, None)
        elif candidates:
            self._complete.pop(image, None)
            self._unfinished[image] = candidates

    def _is_written(self, entry: Entry, own: Collection[tuple[str, str]]) -> bool:
        """Whether no file is missing or of another entry; a person may have changed some, but not all."""
        files = [(name, sha256, self._sha256(name)) for name, sha256 in entry["files"].values()]
        changed = [self._exists(name) and (name, found) not in own for name, _, found in files]
        written = [found == sha256 for _, sha256, found in files]
        return any(written) and all(map(max, written, changed))

    def _write_tables(self, without: Collection[str] = (), *, report: bool = True) -> dict[str, str]:
        if not self._overwrite:
            self.refuse_changed(self.changed_tables())
        files = self._tables() if report else [self.output / name for name in TABLES]
        with written_atomically(*files) as temporary:
            lines = self._sorted_lines(without)
            write_tables(map(json.loads, lines), *temporary[: len(TABLES)])
            if len(files) > len(TABLES):
                write_report(temporary[-1], map(json.loads, lines), self.output)
            hashes = {file.name: file_sha256(t) for file, t in zip(files, temporary, strict=True)}
            self._add_table_hashes(hashes)
            self._append(json.dumps({"tables": hashes}))
        return hashes

    def _lines(self, image: str) -> list[str]:
        return [*filter(None, [self._complete.get(image)]), *self._unfinished.get(image, ())]

    def _sorted_lines(self, without: Collection[str] = ()) -> list[str]:
        return [line for image, line in sorted(self._complete.items()) if image not in without]

    def _add_table_hashes(self, hashes: Mapping[str, str]) -> None:
        for name, sha256 in hashes.items():
            self._table_hashes[name].add(sha256)

    def _append(self, line: str) -> None:
        file = self.output / PARTIAL
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
            with os.fdopen(descriptor, "ab") as stream:
                stream.write(f"\n{line}\n".encode())  # a full disk may have left a part of a line
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise UserError(f"{file}: cannot be written: {error.strerror}; is the disk full?") from error

    def _has_own_report(self) -> bool:
        return self._sha256(REPORT) in self._table_hashes[REPORT]

    def _exists(self, name: str) -> bool:
        return os.path.lexists(self.output / name)

    def _sha256(self, name: str) -> str | None:
        """None for a link, a folder, or a file that cannot be read: none of them is our own."""
        file = self.output / name
        with suppress(UserError):
            return None if file.is_symlink() else file_sha256(file)
        return None


def _hashes(lines: Iterable[str]) -> set[tuple[str, str]]:
    """Name and SHA-256 of all files of lines of the record."""
    return {(name, sha256) for line in lines for name, sha256 in json.loads(line)["files"].values()}


def _write_lines(file: Path, lines: Iterable[str]) -> None:
    with written_atomically(file) as (temporary,), temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(f"{line}\n" for line in lines)


def _read(file: Path, *, strict: bool = True) -> Iterator[tuple[str, Entry]]:
    """The lines of a record, and their content; a kill may leave a part of a line in the partial file.

    Not `strict`: other lines are passed over, since the file may be of another program.

    Raises:
        UserError: the file was changed.
    """
    if not file.is_file():
        return
    with file.open(encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(map(str.strip, stream), 1):
            try:
                entry = json.loads(line)
            except ValueError:
                entry = None
            if entry is None and (not line or file.name == PARTIAL):
                continue
            try:
                if "tables" not in entry:
                    _ = entry["image"], entry["measurements"], dict(entry["files"].values())
            except (ValueError, KeyError, TypeError, AttributeError):
                if strict:
                    raise UserError(
                        f"{file}: line {number}: not as run_prediction.py wrote it; restore it, or "
                        "choose another --output"
                    ) from None
                continue
            yield line, entry


def _set_earlier_table_aside(output: Path) -> None:
    """Rename the table of version 0.1.0, which had no record; its rows stay readable."""
    table, aside = output / MEASUREMENTS, output / "measurements_earlier.csv"
    if not table.is_file() or os.path.lexists(aside) or any((output / f).exists() for f in (RECORD, PARTIAL)):
        return
    with table.open(encoding="utf-8", errors="replace") as stream:
        header = stream.readline().strip().split(",")
    if (header[0], header[-1]) == ("image", "settings_sha256"):
        table.rename(aside)
        print(f"{table}: of an earlier version; it is now {aside.name}")
