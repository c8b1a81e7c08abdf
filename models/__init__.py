"""The registry of networks.

To add a network, write one file with a function `build` and one line in `_REGISTRY`. Only `build` imports
Keras, so that a configuration can be compared with `ARCHITECTURES` without starting Keras.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import keras

Tensor: TypeAlias = Any
"""A symbolic tensor of Keras, or a tensor of the backend (TensorFlow, JAX, PyTorch). Neither has types."""


class _Entry(NamedTuple):
    module: str
    batch_normalisation: bool
    options: Mapping[str, Any] = MappingProxyType({})


_REGISTRY = {
    "laddernet": _Entry("laddernet", True),
    "laddernet_cbam_v1": _Entry("laddernet", True, {"cbam": "decoder"}),
    "laddernet_cbam_v2": _Entry("laddernet", True, {"cbam": "encoder"}),
    "laddernet_pro": _Entry("laddernet", False, {"vgg_encoder": True}),
    "enhance_laddernet": _Entry("laddernet", False, {"vgg_encoder": True, "cbam": "encoder"}),
    "resunet": _Entry("resunet", True),
    "unet": _Entry("unet", False),
    "unet_vgg": _Entry("unet", False, {"vgg_encoder": True}),
    "efficientnet_unet": _Entry("efficientnet_unet", True),
    "retina_unet": _Entry("retina_unet", False),
    "retina_gnet": _Entry("retina_unet", False, {"upsampled_first": True}),
    "ldpc_net": _Entry("ldpc_net", True),
    "ldpc_sd": _Entry("ldpc_net", True, {"resaspp": False}),
    "ldpc_resaspp": _Entry("ldpc_net", True, {"structured_discarding": False}),
    "ldpc_baseline": _Entry("ldpc_net", True, {"structured_discarding": False, "resaspp": False}),
    "w_net": _Entry("w_net", True),
}

ARCHITECTURES: tuple[str, ...] = tuple(_REGISTRY)

MOST_FILTERS = {"efficientnet_unet": 5}
"""The greatest number of levels of the networks that have one; a configuration is checked without Keras."""


def build(
    architecture: str,
    *,
    filters: Sequence[int],
    dropout: float,
    reduction_ratio: int = 8,
    batch_normalisation: bool | None = None,
    channels: int = 1,
) -> keras.Model:
    """Build a network with fresh weights.

    Args:
        architecture: one of `ARCHITECTURES`.
        filters: number of channels of each level, from full resolution down; one entry for each level.
        dropout: share of activations that are set to 0 in training, in [0, 1).
        reduction_ratio: channels of a level divided by the hidden units of its channel attention;
            without effect in a network without attention.
        batch_normalisation: whether the network has it; `None` for the network's own default.
        channels: number of channels C of the images.

    Returns:
        A functional model named after the architecture, from images (N, H, W, C) float32 in [0, 1],
        any H and W, to probabilities (N, H, W, 1) float32.

    Raises:
        ValueError: the name is unknown, or filters, dropout, reduction_ratio or channels are out of range.
    """
    if architecture not in _REGISTRY:
        nearest = difflib.get_close_matches(architecture.lower(), ARCHITECTURES, cutoff=0.5)
        raise ValueError(
            f"unknown architecture {architecture!r}; nearest: {', '.join(nearest or ARCHITECTURES)}"
        )
    if not filters or min(filters) < 1:
        raise ValueError(f"filters: found {filters!r}, expected one or more positive integers")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout: found {dropout!r}, expected 0 <= dropout < 1")
    if reduction_ratio < 1:
        raise ValueError(f"reduction_ratio: found {reduction_ratio!r}, expected at least 1")
    if channels < 1:
        raise ValueError(f"channels: found {channels!r}, expected at least 1")
    entry = _REGISTRY[architecture]
    if batch_normalisation is None:
        batch_normalisation = entry.batch_normalisation
    return importlib.import_module(f"models.{entry.module}").build(
        name=architecture,
        filters=tuple(filters),
        dropout=dropout,
        reduction_ratio=reduction_ratio,
        batch_normalisation=batch_normalisation,
        channels=channels,
        **entry.options,
    )
