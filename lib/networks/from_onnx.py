"""Reading a trained network from an ONNX file, to be computed by onnxruntime or OpenVINO, without Keras.

A file from elsewhere could be hostile. It is accepted only if it has the metadata of run_export.py, contains
all its weights and uses only operators of the ONNX standard: then it reads no other file and runs no code.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np

from lib.configuration.experiment_folder import Experiment
from lib.images.checked_files import file_sha256
from lib.networks.batches import HalfBatchRetry, with_batch_size, with_tile_size
from lib.networks.onnx_metadata import network_fields, read_checked_file, stated_bytes_per_pixel
from lib.networks.trained_network import Predict, TrainedNetwork
from lib.runtime.errors import UserError, is_out_of_memory

ROUNDING = 1e-3
"""How far a computed probability may be outside [0, 1]; it is clipped."""


def read_onnx_network(file: Path, overrides: Sequence[str] = (), engine: str = "onnx") -> TrainedNetwork:
    """Read a file that `lib.networks.onnx_export` wrote.

    Args:
        file: the ONNX file.
        overrides: changes of the exported settings, "testing settings.key=value".
        engine: "onnx" (onnxruntime, float32) or "openvino" (bfloat16 if precision = mixed_bfloat16,
            otherwise float32).

    Raises:
        UserError: as `read_checked_file` and `network_fields`; the engine is unknown, not installed, or
            cannot compute the network. The network's `predict` raises it if the network gives other than
            probabilities.
    """
    data, description = read_checked_file(file)
    fields = network_fields(description, file, overrides)
    engines = {"onnx": _onnxruntime_predict, "openvino": _openvino_predict}
    if engine not in engines:
        raise UserError(f"engine {engine!r}: expected {' or '.join(engines)}")
    settings = fields["testing_settings"]
    predict = _checked(engines[engine](data, file, settings.precision), file)
    channels = len(fields["preprocessing"].channels)
    settings = with_tile_size(settings, partial(stated_bytes_per_pixel, description, file))
    fields["testing_settings"] = with_batch_size(predict, settings, channels)
    return TrainedNetwork(**fields, predict=HalfBatchRetry(predict))


def refuse_outdated_export(file: Path, network: TrainedNetwork, experiment: Experiment) -> None:
    """Refuse the export of an experiment whose training has gone on since.

    Raises:
        UserError: the weights of the experiment are other ones.
    """
    weights = experiment.weights(network.testing_settings.best_last)
    if weights.is_file() and file_sha256(weights) != network.weights_sha256:
        raise UserError(
            f"{file}: exported from other weights than {weights.name}: the training has gone on since; "
            f"export {experiment.name} again with run_export.py and the same --config and --set"
        )


def _checked(predict: Predict, file: Path) -> Predict:
    """The same predictions; what is no probability, e.g. of damaged weights, raises a `UserError`."""

    def checked(images: np.ndarray) -> np.ndarray:
        try:
            found, shape = predict(images), (*images.shape[:3], 1)
        except Exception as error:  # onnxruntime and OpenVINO have many types of errors
            if is_out_of_memory(error):
                raise
            raise UserError(f"{file}: cannot be computed ({' '.join(str(error).split())[:200]})") from None
        if found.shape != shape:
            raise UserError(f"{file}: gives an output of shape {found.shape}; expected {shape}")
        low, high = found.min(initial=0), found.max(initial=0)  # NaN if one value is NaN
        if not (low >= -ROUNDING and high <= 1 + ROUNDING):
            raise UserError(
                f"{file}: gives values from {low:g} to {high:g}, which are no probabilities; are its weights "
                "damaged? Export it again"
            )
        return np.clip(found, 0, 1)

    return checked


def newest_export(path_experiments: Path) -> Path | None:
    """The newest ONNX file of all experiments in a folder, or None."""
    files = path_experiments.glob("*/*.onnx")
    return max(files, key=lambda file: file.stat().st_mtime, default=None)


def _onnxruntime_predict(data: bytes, file: Path, precision: str) -> Predict:
    """Predict in float32, whatever the precision: onnxruntime has no bfloat16 on CPUs."""
    import onnxruntime  # heavy, and not needed with OpenVINO

    options = onnxruntime.SessionOptions()
    options.enable_mem_pattern = False  # it is for images of one size
    options.log_severity_level = 3
    # Threads that wait actively for the next operator take time from encoding and preprocessing.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has many types of errors, without a common one
        raise UserError(f"{file}: onnxruntime cannot run it ({str(error)[:200]})") from None
    (entry,), (result,) = session.get_inputs(), session.get_outputs()
    for tensor in (entry, result):
        if tensor.type != "tensor(float)" or len(tensor.shape) != 4:
            shape = "x".join(map(str, tensor.shape)) or "a scalar"
            raise UserError(
                f"{file}: {tensor.name} is {tensor.type}, {shape}; expected float32 in four dimensions"
            )

    def predict(images: np.ndarray) -> np.ndarray:
        return session.run([result.name], {entry.name: images})[0]

    return predict


def _openvino_predict(data: bytes, file: Path, precision: str) -> Predict:
    try:
        import openvino  # optional
    except ImportError:
        raise UserError("--engine openvino: not installed; pip install openvino") from None
    # Without a hint OpenVINO computes in bfloat16 if this is faster on the processor.
    hint = "bf16" if precision == "mixed_bfloat16" else "f32"
    try:
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": hint})
    except RuntimeError as error:
        raise UserError(f"{file}: OpenVINO cannot run it ({str(error)[:200]})") from None

    one_at_a_time = Lock()  # all threads share the input and output memory of the compiled network

    def predict(images: np.ndarray) -> np.ndarray:
        with one_at_a_time:
            return compiled(images)[0].copy()

    return predict
