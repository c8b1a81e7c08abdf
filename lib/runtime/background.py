"""Drawing on the side."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Pen:
    """Draws one picture while the caller goes on; takes the next once that is done.

    As a context it ends with the last picture done. What a drawing raises, the next one or the end raises.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._under_way: Future | None = None

    def draw(self, picture: Callable[..., None], *arguments: object) -> None:
        """Call `picture`."""
        if self._under_way:
            self._under_way.result()
        self._under_way = self._thread.submit(picture, *arguments)

    def __enter__(self) -> "Pen":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown()
        if self._under_way and kind is None:
            self._under_way.result()
