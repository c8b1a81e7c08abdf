"""A trained network out of an ONNX file, computed by onnxruntime or OpenVINO: no Keras, no TensorFlow.

A model file is data from elsewhere. It is taken only if it is one that lib.onnx_export wrote, holds all its
weights itself and uses nothing but the standard's operators: then it can read no other file and run no code.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from lib.configuration.banner import parse_info_banner
from lib.configuration.reading import lay_over, read_section
from lib.memory import HalvedBatches
from lib.prediction import with_batch_size
from lib.runtime.errors import UserError
from lib.trained_network import TrainedNetwork

METADATA_KEY = "retinal_segmentation"
"""Under which the exported file holds everything but the network."""

MAX_BYTES = 2 * 2**30
"""Protocol buffers end there."""

STORED_SECTIONS = ("preprocessing", "testing settings")
"""What inference needs of the configuration. No path: a file that travels must not tell of its home."""

CHANGEABLE = ("threshold", "min_area_px", "pixel_spacing_mm", "test_batch_size", "precision")
"""Keys of [testing settings] that change no probability, or none by much: the threshold holds for them."""

Predict = Callable[[np.ndarray], np.ndarray]

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


def read_onnx_network(
    file: Path, overrides: Sequence[str] = (), engine: str = "onnx"
) -> TrainedNetwork:
    """Read a file of `lib.onnx_export`; `overrides` are of the form "testing settings.key=value".

    Args:
        file: the ONNX file.
        overrides: laid over the settings that it was exported with.
        engine: "onnx" (onnxruntime, float32) or "openvino", which also computes in bfloat16 where
            precision = mixed_bfloat16.

    Raises:
        UserError: not such a file, it refers to other files or to operators outside the standard,
            the engine is not installed or cannot run it, or an override would need another export.
    """
    data, metadata = _checked(file)
    described = _described(metadata, file, overrides)
    engines = {"onnx": _by_onnxruntime, "openvino": _by_openvino}
    if engine not in engines:
        raise UserError(f"engine {engine!r}: expected {' or '.join(engines)}")
    settings = described["testing_settings"]
    predict = engines[engine](data, file, settings.precision)
    described["testing_settings"] = with_batch_size(predict, settings)
    return TrainedNetwork(**described, predict=HalvedBatches(predict))


def _by_onnxruntime(data: bytes, file: Path, precision: str) -> Predict:
    """In float32: onnxruntime has no bfloat16 on CPUs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.enable_mem_pattern = False  # images come in any size
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has many of its own
        raise UserError(f"{file}: onnxruntime cannot run it ({str(error)[:200]})") from None
    (entry,), (result,) = session.get_inputs(), session.get_outputs()

    def predict(images: np.ndarray) -> np.ndarray:
        return session.run([result.name], {entry.name: images})[0]

    return predict


def _by_openvino(data: bytes, file: Path, precision: str) -> Predict:
    try:
        import openvino
    except ImportError:
        raise UserError("--engine openvino: not installed; pip install openvino") from None
    # Left to itself OpenVINO rounds wherever the processor does that faster.
    hint = "bf16" if precision == "mixed_bfloat16" else "f32"
    try:
        core = openvino.Core()
        compiled = core.compile_model(
            core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": hint}
        )
    except RuntimeError as error:
        raise UserError(f"{file}: OpenVINO cannot run it ({str(error)[:200]})") from None

    one_at_a_time = Lock()  # the compiled network has a single place for what goes in and out

    def predict(images: np.ndarray) -> np.ndarray:
        with one_at_a_time:
            return compiled(images)[0].copy()

    return predict


def newest_export(path_experiments: Path) -> Path | None:
    """The ONNX file of an experiment that was exported last, or None."""
    files = path_experiments.glob("*/*.onnx")
    return max(files, key=lambda file: file.stat().st_mtime, default=None)


def _checked(file: Path) -> tuple[bytes, str]:
    """The file, and what it says of the network."""
    import onnx

    if not file.is_file():
        raise UserError(f"{file}: no such file; make one: python -m lib.onnx_export NAME")
    if file.stat().st_size > MAX_BYTES:
        raise UserError(f"{file}: more than 2 GiB; expected a file of lib.onnx_export")
    data = file.read_bytes()
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception:  # protobuf's DecodeError, wherever this version keeps it
        raise UserError(f"{file}: no ONNX file, or a damaged one") from None
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if METADATA_KEY not in metadata:
        raise UserError(f"{file}: not exported by this project (python -m lib.onnx_export NAME)")
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


def _described(metadata: str, file: Path, overrides: Sequence[str]) -> dict[str, Any]:
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
    lay_over(texts, overrides, file)
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
