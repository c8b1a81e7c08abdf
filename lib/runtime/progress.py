"""Progress and time left on the terminal."""

import sys
from collections.abc import Iterable, Sequence

from tqdm import tqdm


def progress(items: Sequence | Iterable, title: str, total: int | None = None) -> tqdm:
    """`items` again, with a bar that is removed at the end; silent where there is no terminal."""
    return tqdm(items, title, total, leave=False, disable=not sys.stderr.isatty(), unit="image")
