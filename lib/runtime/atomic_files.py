"""Files that are complete or absent: written under a temporary name, then renamed.

Temporary names are `.PROCESS-MACHINE-RANDOM-NAME`, so that no two processes share one, also in containers or
on machines with a common folder. Earlier versions wrote `.PROCESS-NAME`.
"""

import hashlib
import json
import os
import platform
import re
import secrets
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lib.runtime.errors import UserError

ABANDONED_SECONDS = 3600
"""A temporary file of another machine that was not changed for so long is abandoned."""

_TEMPORARY = re.compile(r"\.(\d+)-(?:([0-9a-f]{8})-[0-9a-f]{8}-)?(.+)", re.DOTALL)


@contextmanager
def written_atomically(*files: Path) -> Iterator[list[Path]]:
    """Yield a temporary path for each file; rename them all at the end, or remove them on an error.

    Raises:
        UserError: the disk is full or read-only, or permission is missing; the old files are unchanged.
    """
    beside = [file.with_name(_temporary_name(file.name)) for file in files]
    try:
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        for temporary in beside:
            with temporary.open("rb") as written:
                os.fsync(written.fileno())  # a rename could reach the disk before the content
        _rename_all(beside, files)
    except OSError as error:
        # A caller may have made these names by this function too.
        first = files[0].with_name(_without_temporary_prefix(files[0].name))
        where = first if len(files) == 1 else f"{first.name} and the files written with it"
        reason = error.strerror or str(error).splitlines()[0]
        raise UserError(
            f"{where}: cannot be written: {reason}; is the disk full, or {files[0].parent} read-only? "
            "The old content is unchanged"
        ) from error
    finally:
        for temporary in beside:
            with suppress(OSError):
                temporary.unlink()


def _without_temporary_prefix(name: str) -> str:
    found = _TEMPORARY.fullmatch(name)
    return found[3] if found else name


def _rename_all(beside: Sequence[Path], files: Sequence[Path]) -> None:
    """Give all temporary files their names; on an error the files that were replaced are as before.

    Without hard links, files that were replaced before the error stay the new ones.
    """
    kept = [file.with_name(_temporary_name(file.name)) for file in files]
    replaced = []
    try:
        for temporary, file, earlier in zip(beside, files, kept, strict=True):
            existed = os.path.lexists(file)
            if existed and len(files) > 1:
                with suppress(OSError):  # a file system without hard links
                    os.link(file, earlier, follow_symlinks=False)
            temporary.replace(file)
            replaced.append((file, earlier, existed))
    except OSError:
        for file, earlier, existed in replaced:
            with suppress(OSError):
                if existed:
                    earlier.replace(file)
                else:
                    file.unlink()
        raise
    finally:
        for earlier in kept:
            with suppress(OSError):
                earlier.unlink()


def remove_abandoned(folder: Path, names: Collection[str] = ()) -> None:
    """Remove the temporary files that killed processes left in a folder; they may show a patient's image.

    A file is abandoned if its process on this machine has ended. The processes of other machines and
    containers are not known here: their files are abandoned if they were not changed for `ABANDONED_SECONDS`.

    Args:
        folder: the folder; it may be missing.
        names: files whose temporary files of earlier versions are removed too. Only they are: a person's
            file may be named `.2024-notes.txt`.
    """
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            found = _TEMPORARY.fullmatch(entry.name)
            if found and (found[2] or found[3] in names):
                with suppress(OSError):  # another process removed it, or it is of another user
                    if _is_abandoned(int(found[1]), found[2], entry):
                        Path(entry).unlink()


def _temporary_name(name: str) -> str:
    return f".{os.getpid()}-{_machine()}-{secrets.token_hex(4)}-{name}"


def _machine() -> str:
    """Eight digits for the machine or container in which a process number is valid."""
    try:
        numbers = str(Path("/proc/self/ns/pid").readlink())  # containers may have the same name
    except OSError:  # not Linux
        numbers = ""
    return hashlib.sha256(f"{platform.node()} {numbers}".encode()).hexdigest()[:8]


def _is_abandoned(process: int, machine: str | None, entry: os.DirEntry) -> bool:
    if machine not in {None, _machine()}:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > ABANDONED_SECONDS
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # a living process of another user
        pass
    return False


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
