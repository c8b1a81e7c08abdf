"""`python -m models`: a table of every network at its paper's width: parameters, cost, receptive field."""

from collections.abc import Iterator


def published() -> Iterator[tuple[str, tuple[int, ...], int]]:
    """Every registered network with its paper's widths and the side of its training patch."""
    from models import ARCHITECTURES

    for name in ARCHITECTURES:
        if name.startswith("retina"):
            yield name, (32, 64, 128), 48
        elif name.startswith("ldpc"):
            yield name, (64, 128, 256), 128
        else:
            yield name, (64, 128, 256, 512), 48


if __name__ == "__main__":
    from models.cost import table

    print(table(published()))
