"""`python -m models [NETWORK ...]`: parameters, cost and receptive field at the widths of the papers."""

import argparse
from collections.abc import Iterator

from lib.runtime.keras_startup import standard_error_discarded
from models import ARCHITECTURES


def published_sizes() -> Iterator[tuple[str, tuple[int, ...], int, int]]:
    """Name, widths, side of the training patch in pixels, and channels of every network in its paper.

    `efficientnet_unet` is in no paper; its sizes are those of configurations/ffa_recommended.txt.
    """
    for name in ARCHITECTURES:
        if name.startswith("retina"):
            yield name, (32, 64, 128), 48, 1
        elif name.startswith("ldpc"):
            yield name, (64, 128, 256), 128, 1
        elif name == "w_net":
            yield name, (8, 16, 32), 512, 3
        elif name == "efficientnet_unet":
            yield name, (16, 24, 40, 64, 96), 320, 3
        else:
            yield name, (64, 128, 256, 512), 48, 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="name of a network (default: all)")
    chosen = parser.parse_args().networks
    if unknown := set(chosen) - set(ARCHITECTURES):
        parser.error(f"no network {unknown.pop()}; expected any of {', '.join(ARCHITECTURES)}")
    with standard_error_discarded():  # messages of TensorFlow, also of its first operation
        from models.cost import markdown_table

        table = markdown_table(size for size in published_sizes() if not chosen or size[0] in chosen)
    print(table)
