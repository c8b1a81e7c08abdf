"""What the fuzz targets share: each input becomes a file, which is read, or refused by name."""

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import atheris

LIMITS = ["-timeout=20", "-rss_limit_mb=4096", "-max_len=65536", "-artifact_prefix=fuzz-"]


@contextlib.contextmanager
def instrumented() -> Iterator[None]:
    """What is imported within guides the fuzzer by the branches taken in it."""
    packages = ["lib", "json", "configparser", "PIL", "pydicom"]
    with atheris.instrument_imports(include=packages, enable_loader_override=False):
        yield


def fuzz(read: Callable[[Path], None], seeds: Iterable[bytes], **options: Callable) -> None:
    """Give `read` one file after the other, made from the seeds; anything that it raises is a finding.

    Args:
        read: is to raise nothing on any file.
        seeds: contents of files that reach far into the reader.
        options: of `atheris.Setup`.
    """
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        file, corpus = Path(folder, "input"), Path(folder, "corpus")
        corpus.mkdir()
        for number, seed in enumerate(seeds):
            (corpus / str(number)).write_bytes(seed)

        def one(data: bytes) -> None:
            file.write_bytes(data)
            read(file)

        atheris.Setup([sys.argv[0], *LIMITS, *sys.argv[1:], str(corpus)], one, **options)
        atheris.Fuzz()
