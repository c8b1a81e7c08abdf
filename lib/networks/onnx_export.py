"""Export of the network of an experiment to one ONNX file, with all settings that are needed to use it."""

import json
import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np
import onnx

from lib.configuration.experiment_folder import Experiment
from lib.configuration.reading import Configuration
from lib.networks.from_experiments import experiment_configuration, read_keras_network
from lib.networks.keras_model import trained_model
from lib.networks.onnx_metadata import METADATA_KEY, network_metadata
from lib.networks.trained_network import TrainedNetwork
from lib.runtime.atomic_files import written_atomically
from lib.runtime.errors import UserError


def export(experiment: Experiment, overrides: list[str]) -> Path:
    """Write `<name>.onnx` into the folder of the experiment.

    Raises:
        UserError: there is no trained network, or the backend of Keras is not TensorFlow.
    """
    configuration = experiment_configuration(experiment, overrides)
    network, _ = read_keras_network(experiment, overrides)
    # The weights are read again: the file is in float32, whatever the precision of the prediction.
    weights = experiment.weights(configuration.testing_settings.best_last)
    model = trained_model(configuration, weights)
    write_onnx(model, network, configuration, experiment.onnx)
    return experiment.onnx


def write_onnx(model: keras.Model, network: TrainedNetwork, configuration: Configuration, file: Path) -> None:
    """Write the model and the description of the network, which `read_onnx_network` reads.

    Raises:
        UserError: the backend of Keras is not TensorFlow.
    """
    exported = onnx_model(model)
    metadata = json.dumps(network_metadata(network, configuration), sort_keys=True)
    onnx.helper.set_model_props(exported, {METADATA_KEY: metadata})
    with written_atomically(file) as (beside,):
        onnx.save(exported, beside)


def onnx_model(model: keras.Model) -> onnx.ModelProto:
    """Convert a model to ONNX: input (N, H, W, C), output (N, H, W, 1), float32, any N, H and W.

    Raises:
        UserError: the backend of Keras is not TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise UserError(
            f"KERAS_BACKEND = {keras.backend.backend()}: expected tensorflow; only TensorFlow exports "
            "networks for any image size, and it can load weights of every backend"
        )
    model = _with_few_operators(model)
    model.predict_on_batch(
        np.zeros((1, 32, 32, model.input_shape[-1]), np.float32)
    )  # a model must have been called once
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the exporter of Keras uses np.object
        file = Path(folder) / "network.onnx"
        model.export(file, format="onnx", verbose=False)
        exported = onnx.load(file)
    _with_constant_scales(exported.graph)
    return exported


def _with_few_operators(model: keras.Model) -> keras.Model:
    """Replace layers by layers that the exporter converts to one ONNX operator each.

    Keras repeats rows and columns to up-sample an image, and TensorFlow splits the image for a convolution
    with dilation. Both become dozens of operators with transpositions: a third of the time of LDPC-Net.
    """
    # Only now: the check of the backend comes first.
    import tensorflow as tf  # noqa: TID251 (Keras exports to ONNX only with TensorFlow)

    class Doubling(keras.layers.UpSampling2D):
        def call(self, x: tf.Tensor) -> tf.Tensor:
            return tf.raw_ops.ResizeNearestNeighbor(images=x, size=2 * tf.shape(x)[1:3])

    class Dilated(keras.layers.Conv2D):
        def convolution_op(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
            sizes = zip(self.kernel_size, self.dilation_rate, strict=True)
            # onnxruntime refuses "SAME" together with a dilation.
            height, width = ([rate * (size // 2)] * 2 for size, rate in sizes)
            padding = [[0, 0], height, width, [0, 0]]
            return tf.nn.conv2d(x, kernel, 1, padding, dilations=self.dilation_rate)

    def replaced(layer: keras.layers.Layer) -> keras.layers.Layer:
        kind = type(layer)
        # All our networks up-sample to twice the size with the nearest neighbour.
        if kind is keras.layers.UpSampling2D:
            kind = Doubling
        elif kind is keras.layers.Conv2D and layer.dilation_rate != (1, 1):
            kind = Dilated
        return kind.from_config(layer.get_config())

    clone = keras.models.clone_model(model, clone_function=replaced)
    clone.set_weights(model.get_weights())
    return clone


def _with_constant_scales(graph: onnx.GraphProto) -> None:
    """Give every up-sampling the constant scale 2 instead of an output size that is computed.

    With constant scales onnxruntime keeps its own memory layout of the channels between convolutions.
    """
    doublings = [node for node in graph.node if node.op_type == "Resize"]
    if doublings:
        scales = onnx.helper.make_tensor("doubled", onnx.TensorProto.FLOAT, [4], [1, 1, 2, 2])
        graph.initializer.append(scales)
    for node in doublings:
        image, region, *_ = node.input
        node.input[:] = [image, region, "doubled"]
