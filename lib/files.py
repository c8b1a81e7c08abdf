"""Files appear whole or not at all: written beside, then renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_beside(*files: Path) -> Iterator[list[Path]]:
    """Yield a temporary path for each file; rename them all at the end, or remove them on an error."""
    beside = [file.with_name(f".{os.getpid()}-{file.name}") for file in files]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield beside
        for temporary in beside:
            with temporary.open("rb") as written:
                os.fsync(written.fileno())  # a rename may reach the disk before the content does
        for temporary, file in zip(beside, files, strict=True):
            temporary.replace(file)
    finally:
        for temporary in beside:
            temporary.unlink(missing_ok=True)


def write_text(file: Path, content: str) -> None:
    """Write UTF-8 text to a file that appears whole."""
    with written_beside(file) as (beside,):
        beside.write_text(content, encoding="utf-8")
