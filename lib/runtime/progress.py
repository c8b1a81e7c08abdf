"""Progress bar with remaining time on the terminal."""

import sys
from collections.abc import Iterable, Sequence

from tqdm import tqdm


def progress(items: Sequence | Iterable, title: str, total: int | None = None) -> tqdm:
    """Iterate over `items` with a bar that disappears at the end; no bar if there is no terminal."""
    return tqdm(items, title, total, leave=False, disable=not sys.stderr.isatty(), unit="image")
