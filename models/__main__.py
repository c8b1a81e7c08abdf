"""`python -m models`: a table of every network at its paper's widths: parameters, cost, receptive field."""

from collections.abc import Iterator

from models import ARCHITECTURES
from models.cost import markdown_table


def published_sizes() -> Iterator[tuple[str, tuple[int, ...], int]]:
    """Name, widths and side of the training patch, in pixels, of every network in its paper."""
    for name in ARCHITECTURES:
        if name.startswith("retina"):
            yield name, (32, 64, 128), 48
        elif name.startswith("ldpc"):
            yield name, (64, 128, 256), 128
        else:
            yield name, (64, 128, 256, 512), 48


if __name__ == "__main__":
    print(markdown_table(published_sizes()))
