"""`python -m models`: a table of every network at its paper's widths: parameters, cost, receptive field."""

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
            yield name, (16, 24, 40, 64, 96), 224, 3
        else:
            yield name, (64, 128, 256, 512), 48, 1


if __name__ == "__main__":
    with standard_error_discarded():  # messages of TensorFlow, also of its first operation
        from models.cost import markdown_table

        table = markdown_table(published_sizes())
    print(table)
