"""An experiment's network as one ONNX file, with all that is needed to use it."""

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
    """Write `<name>.onnx` into the experiment's folder.

    Raises:
        UserError: there is no trained network, or Keras does not run on TensorFlow.
    """
    configuration = experiment_configuration(experiment, overrides)
    network, _ = read_keras_network(experiment, overrides)
    # In float32, whatever precision Keras is to predict in.
    weights = experiment.weights(configuration.testing_settings.best_last)
    model = trained_model(configuration, weights)
    write_onnx(model, network, configuration, experiment.onnx)
    return experiment.onnx


def write_onnx(
    model: keras.Model, network: TrainedNetwork, configuration: Configuration, file: Path
) -> None:
    """Write the model, for any batch, height and width, and all that `read_onnx_network` reads with it.

    Raises:
        UserError: Keras does not run on TensorFlow.
    """
    exported = onnx_model(model)
    metadata = json.dumps(network_metadata(network, configuration), sort_keys=True)
    onnx.helper.set_model_props(exported, {METADATA_KEY: metadata})
    with written_atomically(file) as (beside,):
        onnx.save(exported, beside)


def onnx_model(model: keras.Model) -> onnx.ModelProto:
    """The model in ONNX: (N, H, W, 1) float32 in and out, N, H and W free.

    Raises:
        UserError: Keras does not run on TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise UserError(
            f"KERAS_BACKEND = {keras.backend.backend()}: expected tensorflow, which alone exports "
            "networks of any image size; weights of every backend load there"
        )
    model = _in_few_operators(model)
    model.predict_on_batch(np.zeros((1, 32, 32, 1), np.float32))  # must have been called once
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Keras' exporter asks numpy for np.object
        file = Path(folder) / "network.onnx"
        model.export(file, format="onnx", verbose=False)
        exported = onnx.load(file)
    _with_constant_scales(exported.graph)
    return exported


def _in_few_operators(model: keras.Model) -> keras.Model:
    """The model, of the same weights, of layers that ONNX has one operator for.

    Keras up-samples by repeating rows and then columns, and TensorFlow convolves with holes by parting the
    image into smaller ones; both become dozens of operators between transpositions, a third of LDPC-Net's
    time.
    """
    import tensorflow as tf  # noqa: TID251 (Keras exports to ONNX from TensorFlow alone)

    class Doubling(keras.layers.UpSampling2D):
        def call(self, x: tf.Tensor) -> tf.Tensor:
            return tf.raw_ops.ResizeNearestNeighbor(images=x, size=2 * tf.shape(x)[1:3])

    class Dilated(keras.layers.Conv2D):
        def convolution_op(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
            sizes = zip(self.kernel_size, self.dilation_rate, strict=True)
            # onnxruntime refuses "SAME" beside holes.
            height, width = ([rate * (size // 2)] * 2 for size, rate in sizes)
            padding = [[0, 0], height, width, [0, 0]]
            return tf.nn.conv2d(x, kernel, 1, padding, dilations=self.dilation_rate)

    def exported(layer: keras.layers.Layer) -> keras.layers.Layer:
        kind = type(layer)
        if kind is keras.layers.UpSampling2D:  # in every network to twice the size, by the nearest
            kind = Doubling
        elif kind is keras.layers.Conv2D and layer.dilation_rate != (1, 1):
            kind = Dilated
        return kind.from_config(layer.get_config())

    clone = keras.models.clone_model(model, clone_function=exported)
    clone.set_weights(model.get_weights())
    return clone


def _with_constant_scales(graph: onnx.GraphProto) -> None:
    """Let every up-sampling double the image, where the exporter computes the size that this gives.

    Only so does onnxruntime keep its own order of the channels from one convolution to the next.
    """
    doublings = [node for node in graph.node if node.op_type == "Resize"]
    if doublings:
        scales = onnx.helper.make_tensor("doubled", onnx.TensorProto.FLOAT, [4], [1, 1, 2, 2])
        graph.initializer.append(scales)
    for node in doublings:
        image, region, *_ = node.input
        node.input[:] = [image, region, "doubled"]
