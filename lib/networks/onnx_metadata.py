"""Description of the network in an ONNX file: write it; read it, after the file was checked for safety."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lib.configuration.banner import parse_info_banner
from lib.configuration.reading import Configuration, apply_overrides, read_section
from lib.networks.trained_network import TrainedNetwork
from lib.runtime.errors import UserError

METADATA_KEY = "retinal_segmentation"
"""Key of the ONNX metadata under which the description is stored, as JSON."""

MAX_FILE_BYTES = 2 * 2**30
"""The largest size of an ONNX file: ONNX files are protocol buffers."""

STORED_SECTIONS = ("preprocessing", "testing settings")
"""Sections of the configuration that prediction needs. They hold no path: a path could be confidential."""

SEEN_IMAGES_KEY = "seen_images_sha256"
"""Key of the description for the SHA-256 of the images that the training has used. It holds no file names."""

CHANGEABLE_KEYS = ("threshold", "min_area_px", "pixel_spacing_mm", "test_batch_size", "precision")
"""Keys of [testing settings] that may change after the export, since probabilities stay almost the same."""

TEXT_FIELDS = ("name", "architecture", "structure", "label", "threshold_source", "weights_sha256")
SCALAR_FIELDS = {**dict.fromkeys(TEXT_FIELDS, str), "threshold": float, "min_area_px": int}
"""Fields of `TrainedNetwork` with a single value, and their types."""


def network_metadata(network: TrainedNetwork, configuration: Configuration) -> dict[str, Any]:
    """The description of a network, which `network_fields` reads."""
    banner = configuration.texts["preparation"]["info_banner"]
    sections = {name: configuration.texts[name] for name in STORED_SECTIONS}
    scalars = {name: getattr(network, name) for name in SCALAR_FIELDS}
    seen = sorted(network.seen_images_sha256)
    return {**scalars, "info_banner": banner, "sections": sections, SEEN_IMAGES_KEY: seen}


def read_checked_file(file: Path) -> tuple[bytes, str]:
    """The content of an ONNX file, and the description of the network in it, as JSON.

    Raises:
        UserError: not an ONNX file of this project; it refers to other files or to operators outside the
            ONNX standard.
    """
    import onnx  # heavy: start-up without an ONNX file does not need it

    if not file.is_file():
        raise UserError(f"{file}: no such file; make one: python run_export.py NAME")
    if file.stat().st_size > MAX_FILE_BYTES:
        raise UserError(f"{file}: more than 2 GiB; expected a file of run_export.py")
    data = file.read_bytes()
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception:  # the module of protobuf's DecodeError depends on the version
        raise UserError(f"{file}: not an ONNX file, or a damaged one") from None
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if METADATA_KEY not in metadata:
        raise UserError(f"{file}: not exported by this project (python run_export.py NAME)")
    for message in _messages(model):
        if isinstance(message, onnx.TensorProto) and (
            message.external_data or message.data_location == onnx.TensorProto.EXTERNAL
        ):
            raise UserError(f"{file}: has weights in other files, which are not read")
        if isinstance(message, onnx.NodeProto) and message.domain not in {"", "ai.onnx"}:
            operator = f"{message.domain}.{message.op_type}"
            raise UserError(f"{file}: operator {operator} is not in the ONNX standard")
    return data, metadata[METADATA_KEY]


def network_fields(metadata: str, file: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """All fields of `TrainedNetwork` except `predict`, from the description and `overrides`.

    Raises:
        UserError: the description is damaged, or an override changes other than `CHANGEABLE_KEYS`.
    """
    source = f"{file}: its metadata"
    try:
        content = json.loads(metadata)
        fields = {name: kind(content[name]) for name, kind in SCALAR_FIELDS.items()}
        fields["info_banner"] = parse_info_banner(content["info_banner"])
        seen = content.get(SEEN_IMAGES_KEY, [])  # older files lack the key
        fields[SEEN_IMAGES_KEY] = frozenset(str(value) for value in seen)
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
        if name not in CHANGEABLE_KEYS:
            raise UserError(f"{file}: [{section}] {name} cannot change after the export; export it again")
    for section in STORED_SECTIONS:
        fields[section.replace(" ", "_")] = read_section(section, texts[section], source)
    for name in ("threshold", "min_area_px"):
        if ("testing settings", name) in changed:
            fields[name] = getattr(fields["testing_settings"], name)
            fields["threshold_source"] = "configuration"
    return fields


def _messages(message: Any) -> Iterator[Any]:
    """A protocol buffer message and all messages in it: graphs, functions, tensors in attributes."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if hasattr(value, "__len__") else [value]:
                yield from _messages(part)
