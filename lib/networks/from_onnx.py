"""A trained network out of an ONNX file, computed by onnxruntime or OpenVINO: no Keras, no TensorFlow.

A model file is data from elsewhere. It is taken only if run_export.py wrote it, if it holds all its weights
itself and if it uses only operators of the ONNX standard: then it can read no other file and run no code.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock

import numpy as np

from lib.networks.batches import HalfBatchRetry, with_batch_size
from lib.networks.onnx_metadata import network_fields, read_checked_file
from lib.networks.trained_network import TrainedNetwork
from lib.runtime.errors import UserError

Predict = Callable[[np.ndarray], np.ndarray]


def read_onnx_network(
    file: Path, overrides: Sequence[str] = (), engine: str = "onnx"
) -> TrainedNetwork:
    """Read a file of `lib.networks.onnx_export`; `overrides` are of the form "testing settings.key=value".

    Args:
        file: the ONNX file.
        overrides: laid over the settings that it was exported with.
        engine: "onnx" (onnxruntime, float32) or "openvino", which also computes in bfloat16 where
            precision = mixed_bfloat16.

    Raises:
        UserError: not such a file, it refers to other files or to operators outside the standard,
            the engine is not installed or cannot run it, or an override would need another export.
    """
    data, metadata = read_checked_file(file)
    fields = network_fields(metadata, file, overrides)
    engines = {"onnx": _by_onnxruntime, "openvino": _by_openvino}
    if engine not in engines:
        raise UserError(f"engine {engine!r}: expected {' or '.join(engines)}")
    settings = fields["testing_settings"]
    predict = engines[engine](data, file, settings.precision)
    fields["testing_settings"] = with_batch_size(predict, settings)
    return TrainedNetwork(**fields, predict=HalfBatchRetry(predict))


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
