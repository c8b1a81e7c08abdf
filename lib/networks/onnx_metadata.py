"""What an exported ONNX file says of its network; files from elsewhere are checked before they run."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lib.configuration.banner import parse_info_banner
from lib.configuration.reading import Configuration, apply_overrides, read_section
from lib.networks.trained_network import TrainedNetwork
from lib.runtime.errors import UserError

METADATA_KEY = "retinal_segmentation"
"""Under which the exported file holds everything but the network."""


MAX_BYTES = 2 * 2**30
"""Of an ONNX file: a protocol buffer cannot be larger."""


STORED_SECTIONS = ("preprocessing", "testing settings")
"""What inference needs of the configuration. No path: a file that travels must not tell of its home."""


CHANGEABLE = ("threshold", "min_area_px", "pixel_spacing_mm", "test_batch_size", "precision")
"""Keys of [testing settings] that change no probability, or none by much: the threshold holds for them."""


SCALARS = {
    "name": str,
    "architecture": str,
    "structure": str,
    "label": str,
    "threshold": float,
    "threshold_source": str,
    "min_area_px": int,
    "weights_sha256": str,
}


def read_checked_file(file: Path) -> tuple[bytes, str]:
    """The file, and what it says of the network."""
    import onnx

    if not file.is_file():
        raise UserError(f"{file}: no such file; make one: python run_export.py NAME")
    if file.stat().st_size > MAX_BYTES:
        raise UserError(f"{file}: more than 2 GiB; expected a file of run_export.py")
    data = file.read_bytes()
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception:  # protobuf's DecodeError, wherever this version keeps it
        raise UserError(f"{file}: no ONNX file, or a damaged one") from None
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if METADATA_KEY not in metadata:
        raise UserError(f"{file}: not exported by this project (python run_export.py NAME)")
    for message in _messages(model):
        if isinstance(message, onnx.TensorProto) and (
            message.external_data or message.data_location == onnx.TensorProto.EXTERNAL
        ):
            raise UserError(f"{file}: keeps weights in other files, which are not read")
        if isinstance(message, onnx.NodeProto) and message.domain not in {"", "ai.onnx"}:
            raise UserError(
                f"{file}: operator {message.domain}.{message.op_type} is not ONNX's own"
            )
    return data, metadata[METADATA_KEY]


def _messages(message: Any) -> Iterator[Any]:
    """A protocol buffer and all that is within it: graphs within attributes, functions, sparse tensors."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if hasattr(value, "__len__") else [value]:
                yield from _messages(part)


def network_fields(metadata: str, file: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The fields of `TrainedNetwork` but `predict`."""
    source = f"{file}: its metadata"
    try:
        content = json.loads(metadata)
        found = {name: kind(content[name]) for name, kind in SCALARS.items()}
        found["info_banner"] = parse_info_banner(content["info_banner"])
        texts = {
            section: {str(k): str(v) for k, v in content["sections"][section].items()}
            for section in STORED_SECTIONS
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{source} cannot be read ({error}); export it again") from None
    exported = {section: dict(keys) for section, keys in texts.items()}
    apply_overrides(texts, overrides, file)
    changed = [
        (section, name)
        for section in STORED_SECTIONS
        for name, value in texts[section].items()
        if exported[section].get(name) != value
    ]
    for section, name in changed:
        if name not in CHANGEABLE:
            raise UserError(
                f"{file}: [{section}] {name} was settled by the export; export it again"
            )
    for section in STORED_SECTIONS:
        found[section.replace(" ", "_")] = read_section(section, texts[section], source)
    for name in ("threshold", "min_area_px"):
        if ("testing settings", name) in changed:
            found[name] = getattr(found["testing_settings"], name)
            found["threshold_source"] = "configuration"
    return found


def network_metadata(network: TrainedNetwork, configuration: Configuration) -> dict:
    """All but the network itself, as `read_onnx_network` reads it back."""
    banner = configuration.texts["preparation"]["info_banner"]
    sections = {name: configuration.texts[name] for name in STORED_SECTIONS}
    scalars = {name: getattr(network, name) for name in SCALARS}
    return {**scalars, "info_banner": banner, "sections": sections}
