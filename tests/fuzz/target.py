"""Run a fuzz target: write each input to a file and read it."""

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import atheris

LIMITS = ["-timeout=20", "-rss_limit_mb=4096", "-max_len=65536", "-artifact_prefix=fuzz-"]


@contextlib.contextmanager
def instrumented() -> Iterator[None]:
    """Modules that are imported in this context are instrumented for coverage."""
    packages = ["lib", "json", "configparser", "PIL", "pydicom"]
    with atheris.instrument_imports(include=packages, enable_loader_override=False):
        yield


def fuzz(read: Callable[[Path], None], seeds: Iterable[bytes], **options: Callable) -> None:
    """Call `read` with files that are mutated from the seeds; each exception that it raises is a finding.

    Args:
        read: function that must not raise on any file.
        seeds: contents of valid files.
        options: options of `atheris.Setup`.
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
