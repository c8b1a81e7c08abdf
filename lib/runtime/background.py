"""One background thread for figures."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class BackgroundThread:
    """Runs one function at a time in a second thread, while the caller continues.

    The end of the context waits for the last function. An error in a function is raised by the next call
    of `run`, or at the end of the context.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1)
        self._running: Future | None = None

    def run(self, function: Callable[..., None], *arguments: object) -> None:
        """Wait for the previous function, then start this one."""
        if self._running:
            self._running.result()
        self._running = self._executor.submit(function, *arguments)

    def __enter__(self) -> "BackgroundThread":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._executor.shutdown()
        if self._running and kind is None:
            self._running.result()
