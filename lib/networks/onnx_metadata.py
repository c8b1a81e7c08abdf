"""Description of the network in an ONNX file: write it; read it, after the file was checked for safety."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx

from lib.configuration.banner import parse_info_banner
from lib.configuration.consistency import unknown_scale
from lib.configuration.experiment_folder import SCORE_KEYS
from lib.configuration.reading import Configuration, apply_overrides, read_section
from lib.networks.trained_network import TrainedNetwork, TrainingImages, label_of
from lib.runtime.errors import UserError

METADATA_KEY = "retinal_segmentation"
"""Key of the ONNX metadata under which the description is stored, as JSON."""

MAX_FILE_BYTES = 2 * 2**30
"""The largest size of an ONNX file: ONNX files are protocol buffers."""

STORED_SECTIONS = ("preprocessing", "testing settings")
"""Sections of the configuration that prediction needs. They hold no path: a path could be confidential."""

SEEN_IMAGES_KEY = "seen_images_sha256"
"""Key of the description for the SHA-256 of the images that the training has used. It holds no file names."""

CHANGEABLE_KEYS = (
    "threshold",
    "min_area_px",
    "pixel_spacing_mm",
    "training_field_of_view_degrees",
    "test_field_of_view_degrees",
    "test_batch_size",
    "precision",
)
"""Keys of [testing settings] that may change after the export: the probabilities of images of the same angle
stay almost the same."""

TRAINING_IMAGES_KEY = "training_images"
"""Key of the description for scale and colour of the training images."""

WEIGHTS_KEY, OPERATIONS_KEY = "initializers_sha256", "operations"
"""Keys of the description for the SHA-256 of all tensors of the graph, as float32 and as float16, and for
the number of nodes of each operator. Older files lack them."""

BYTES_PER_PIXEL_KEY = "activation_bytes_per_pixel"
"""Key of the description for the memory of the activations, for `window = auto`."""

UNKNOWN_BYTES_PER_PIXEL = 4096
"""For files without that key; more than any network of this project needs at the width of its paper."""

MOST_OPERATIONS = 20_000
"""Most nodes of a graph without `operations`; the largest network of this project has some hundred."""

LONGEST_TEXT = {"name": 200, "architecture": 1000, "structure": 40, "label": 100, "threshold_source": 200}
"""Most characters of a text of the description."""

LARGEST_AREA_PX = 10**9
"""The largest `min_area_px`."""

TEXT_FIELDS = ("name", "architecture", "structure", "label", "threshold_source", "weights_sha256")
SCALAR_FIELDS = (*TEXT_FIELDS, "threshold", "min_area_px")
"""Fields of `TrainedNetwork` with a single value."""


def network_metadata(
    network: TrainedNetwork, configuration: Configuration, graphs: Sequence[onnx.GraphProto]
) -> dict[str, Any]:
    """The description of a network, which `network_fields` and `read_checked_file` read.

    `graphs` are the graph of the network, and the same one with other types of its weights.
    """
    banner = configuration.texts["preparation"]["info_banner"]
    sections = {name: configuration.texts[name] for name in STORED_SECTIONS}
    scalars = {name: getattr(network, name) for name in SCALAR_FIELDS}
    seen = sorted(network.seen_images_sha256)
    images = network.training_images and asdict(network.training_images)
    return {
        **scalars,
        "info_banner": banner,
        "sections": sections,
        SEEN_IMAGES_KEY: seen,
        TRAINING_IMAGES_KEY: images,
        WEIGHTS_KEY: [tensors_sha256(graph) for graph in graphs],
        OPERATIONS_KEY: operations(graphs[0]),
    }


def tensors_sha256(graph: onnx.GraphProto) -> str:
    """SHA-256 of the names, types and numbers of all tensors of a graph, in hexadecimal."""
    digests = []
    for message in _messages(graph):
        if isinstance(message, onnx.TensorProto):
            array = onnx.numpy_helper.to_array(message)
            digest = hashlib.sha256(f"{message.name} {array.dtype} {array.shape} ".encode())
            digest.update(array.tobytes())
            digests.append(digest.hexdigest())
    return hashlib.sha256(" ".join(sorted(digests)).encode()).hexdigest()


def operations(graph: onnx.GraphProto) -> dict[str, int]:
    """How many nodes of each operator a graph has, except Cast, which float16 weights need."""
    return dict(Counter(node.op_type for node in graph.node if node.op_type != "Cast"))


def read_checked_file(file: Path) -> tuple[bytes, dict[str, Any]]:
    """The content of an ONNX file, and the description of the network in it.

    Raises:
        UserError: not an ONNX file of this project; it refers to other files or to operators outside the
            ONNX standard, has loops or branches, or another graph than the description says.
    """
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
        if isinstance(message, onnx.AttributeProto) and (message.HasField("g") or message.graphs):
            raise UserError(f"{file}: has loops or branches (Loop, If, Scan), which no network here has")
    if model.functions:
        raise UserError(f"{file}: has functions of its own, which no network here has")
    inputs, outputs = len(model.graph.input), len(model.graph.output)
    if (inputs, outputs) != (1, 1):
        raise UserError(f"{file}: has {inputs} inputs and {outputs} outputs; expected one of each")
    content = _parsed(metadata[METADATA_KEY], file)
    _refuse_other_graph(model.graph, content, file)
    return data, content


def _parsed(metadata: str, file: Path) -> dict[str, Any]:
    try:
        content = json.loads(metadata)
    except (ValueError, RecursionError) as error:  # RecursionError: many thousand levels
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise UserError(f"{file}: its metadata cannot be read ({reason}); export it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: its metadata are no JSON object; export it again")
    return content


def _refuse_other_graph(graph: onnx.GraphProto, content: dict[str, Any], file: Path) -> None:
    """Refuse a graph that was changed after the export, or whose computation could be endless."""
    found, stated = operations(graph), content.get(OPERATIONS_KEY)
    if stated is not None and found != stated:
        number = sum(found.values())
        raise UserError(f"{file}: has {number} operations, not those of its metadata; export it again")
    if len(graph.node) > MOST_OPERATIONS:
        raise UserError(f"{file}: has {len(graph.node)} operations; expected at most {MOST_OPERATIONS}")
    expected = content.get(WEIGHTS_KEY)
    if expected is not None and not (isinstance(expected, list) and _tensors_sha256(graph, file) in expected):
        raise UserError(
            f"{file}: its weights are not those that were exported (another SHA-256): damaged or changed; "
            "export it again, or get the file again"
        )


def _tensors_sha256(graph: onnx.GraphProto, file: Path) -> str:
    try:
        return tensors_sha256(graph)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise UserError(f"{file}: its weights cannot be read ({error}); export it again") from None


def network_fields(content: dict[str, Any], file: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """All fields of `TrainedNetwork` except `predict`, from the description and `overrides`.

    Raises:
        UserError: the description is damaged, a value is out of range, or an override changes other than
            `CHANGEABLE_KEYS` and `[preparation] info_banner`.
    """
    source = f"{file}: its metadata"
    try:
        fields = _scalar_fields(content)
        seen = content.get(SEEN_IMAGES_KEY, [])  # older files lack the key
        fields[SEEN_IMAGES_KEY] = frozenset(str(value) for value in seen)
        images = content.get(TRAINING_IMAGES_KEY)
        fields[TRAINING_IMAGES_KEY] = images and TrainingImages(**images)
        texts = {
            section: {str(k): str(v) for k, v in content["sections"][section].items()}
            for section in STORED_SECTIONS
        }
        # The only setting of a preparation that may change: it belongs to the images.
        texts["preparation"] = {"info_banner": str(content["info_banner"])}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{source} cannot be read ({error}); export it again") from None
    exported = {section: dict(keys) for section, keys in texts.items()}
    _refuse_other_architecture(fields["architecture"], overrides, file)
    apply_overrides(texts, overrides, file)
    _refuse_other_outlines(fields, texts, file)
    try:
        fields["info_banner"] = parse_info_banner(texts["preparation"]["info_banner"])
    except ValueError as error:
        raise UserError(f"{file}: [preparation] info_banner: expected {error}") from None
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
        where = f"--set over {file}" if section in {of for of, _ in changed} else source
        fields[section.replace(" ", "_")] = read_section(section, texts[section], where)
    for fault in unknown_scale(fields["preprocessing"], fields["testing_settings"]):
        raise UserError(f"{where}: {fault}")
    for name in ("threshold", "min_area_px"):
        if ("testing settings", name) in changed:
            fields[name] = getattr(fields["testing_settings"], name)
            if fields[name] == "validation":
                raise UserError(
                    f"--set over {file}: [testing settings] {name} = validation: found no validation images, "
                    "since the network was exported; expected a number"
                )
            if name == "threshold":
                fields["threshold_source"] = "configuration"
    return fields


def _refuse_other_outlines(fields: dict[str, Any], texts: dict[str, dict[str, str]], file: Path) -> None:
    """Refuse overrides of what the network outlines; those of other sections may serve other scripts."""
    structure, label = fields["structure"], fields["label"]
    given = texts.get("data attributes", {}).get("structure", structure)
    labels = texts["preparation"].get("labels", label)
    first_label = label_of(structure, labels.split(",")[0].strip())
    outlined = {
        "[data attributes] structure": (given, structure),
        "[preparation] labels": (first_label, label),
    }
    for setting, (value, stored) in outlined.items():
        if value != stored:
            raise UserError(
                f"{file}: {setting} = {value}: the network outlines {stored}, which cannot change after the "
                "export; export it again"
            )


def _refuse_other_architecture(exported: str, overrides: Sequence[str], file: Path) -> None:
    for override in overrides:
        key, _, value = override.partition("=")
        if key.strip() == "model.architecture" and value.strip() not in exported.split(" + "):
            raise UserError(
                f"--set over {file}: [model] architecture = {value.strip()}: the exported network is "
                f"{exported}, which cannot change"
            )


def overrides_of_network(overrides: Sequence[str], file: Path) -> list[str]:
    """Those of `overrides` that concern the network, and not only the scores and figures of a test.

    Raises:
        UserError: one changes the architecture, or the name of the results, which is that of the file.
    """
    found = []
    for override in overrides:
        section, _, key = override.partition("=")[0].strip().partition(".")
        if section == "model" or (section, key) == ("experiment name", "name"):
            raise UserError(f"--set over {file}: [{section}] {key} cannot be set for an exported network")
        if section == "preprocessing" or (section == "testing settings" and key not in SCORE_KEYS):
            found.append(override)
    return found


def stated_bytes_per_pixel(content: dict[str, Any], file: Path) -> int:
    """Memory of the activations for each pixel of the image, in bytes.

    Raises:
        UserError: the description has another value than a whole number above 0.
    """
    stated = content.get(BYTES_PER_PIXEL_KEY, UNKNOWN_BYTES_PER_PIXEL)
    if type(stated) is not int or stated < 1:
        raise UserError(
            f"{file}: its metadata have {BYTES_PER_PIXEL_KEY} = {str(stated)[:50]}; expected a whole number "
            "above 0; export it again"
        )
    return stated


def _scalar_fields(content: dict[str, Any]) -> dict[str, Any]:
    """The values of `SCALAR_FIELDS`; ValueError if one has another type or is out of range."""
    fields = {name: content[name] for name in SCALAR_FIELDS}
    for name in TEXT_FIELDS:
        text, longest = fields[name], LONGEST_TEXT.get(name, 100_000)
        if not (isinstance(text, str) and text.isprintable() and 0 < len(text) <= longest):
            raise ValueError(f"{name} = {str(text)[:50]!r}: expected a text of at most {longest} characters")
    threshold, area = fields["threshold"], fields["min_area_px"]
    # bool is a kind of int
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise ValueError(f"threshold = {str(threshold)[:50]}: expected a number from 0 to 1")
    if isinstance(area, bool) or not isinstance(area, int) or not 0 <= area <= LARGEST_AREA_PX:
        raise ValueError(
            f"min_area_px = {str(area)[:50]}: expected a whole number from 0 to {LARGEST_AREA_PX}"
        )
    fields["threshold"] = float(threshold)
    fields["label"] = label_of(fields["structure"], fields["label"])
    return fields


def _messages(message: Any) -> Iterator[Any]:
    """A protocol buffer message and all messages in it: graphs, functions, tensors in attributes."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if hasattr(value, "__len__") else [value]:
                yield from _messages(part)
