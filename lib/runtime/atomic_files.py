"""Files that are complete or absent: written under a temporary name, then renamed."""

import glob
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lib.runtime.errors import UserError


@contextmanager
def written_atomically(*files: Path) -> Iterator[list[Path]]:
    """Yield a temporary path for each file; rename them all at the end, or remove them on an error.

    Raises:
        UserError: the disk is full or read-only, or permission is missing; the old files are unchanged.
    """
    beside = [file.with_name(f".{os.getpid()}-{file.name}") for file in files]
    try:
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        for temporary in beside:
            with temporary.open("rb") as written:
                os.fsync(written.fileno())  # a rename could reach the disk before the content
        for temporary, file in zip(beside, files, strict=True):
            temporary.replace(file)
    except OSError as error:
        where = files[0] if len(files) == 1 else f"{files[0].name} and the files written with it"
        reason = error.strerror or str(error).splitlines()[0]
        raise UserError(
            f"{where}: cannot be written: {reason}; is the disk full, or {files[0].parent} read-only? "
            "The old content is unchanged"
        ) from error
    finally:
        for temporary in beside:
            with suppress(OSError):
                temporary.unlink()


def remove_abandoned(file: Path) -> None:
    """Remove temporary files of `file` that killed processes of this machine left."""
    for unfinished in file.parent.glob(f".[0-9]*-{glob.escape(file.name)}"):
        try:
            os.kill(int(unfinished.name[1:].split("-")[0]), 0)
        except ProcessLookupError:
            unfinished.unlink()
        except (OSError, ValueError, OverflowError):  # of another user, or not our temporary file
            continue


def write_text(file: Path, content: str) -> None:
    """Write UTF-8 text to a file that is complete or absent."""
    with written_atomically(file) as (beside,):
        # File names that are not UTF-8 are written as escapes, which JSON can read.
        beside.write_text(content, encoding="utf-8", errors="backslashreplace")


def read_json(file: Path, remedy: str) -> dict[str, Any]:
    """The object in a JSON file of this program.

    Raises:
        UserError: the file is missing, truncated or otherwise damaged; the message ends with `remedy`.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # JSON and UTF-8 errors are ValueErrors
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{file}: cannot be read ({reason}); {remedy}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected a JSON object; {remedy}")
    return content
