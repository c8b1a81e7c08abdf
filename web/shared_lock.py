"""The lock of the processes that serve the images of one folder."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


class SharedLock:
    """A lock on a file that several processes hold together; it ends with its process, however that ends."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stream: TextIO | None = None

    def acquire(self) -> None:
        """Hold the lock together with other processes."""
        self._stream = self._file.open("a")
        fcntl.flock(self._stream, fcntl.LOCK_SH)

    def release(self) -> None:
        """Release the lock if it is held."""
        if self._stream:
            self._stream.close()
            self._stream = None

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Yield whether nobody holds the lock; if so, nobody gets it inside the context."""
        with self._file.open("a") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
