"""Export of the network of an experiment to one ONNX file, with all settings that are needed to use it."""

import json
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime

from lib.configuration.experiment_folder import Experiment
from lib.configuration.reading import Configuration
from lib.networks.from_experiments import (
    experiment_configuration,
    read_keras_ensemble,
    read_keras_network,
    refuse_replaced_weights,
    side_by_side_model,
)
from lib.networks.keras_model import trained_model
from lib.networks.onnx_metadata import BYTES_PER_PIXEL_KEY, METADATA_KEY, network_metadata
from lib.networks.trained_network import TrainedNetwork
from lib.runtime.atomic_files import written_atomically
from lib.runtime.errors import UserError
from models.cost import activation_bytes_per_pixel
from models.folding import fold_for_prediction

CONVERSIONS = 3
"""Attempts: tf2onnx 1.17 rarely makes a wrong network, and a right one when it converts again."""


def export(
    experiments: Sequence[Experiment],
    overrides: Sequence[str],
    output: Path | None = None,
    *,
    float16_weights: bool = False,
) -> Path:
    """Write the network of an experiment, or the mean of the networks of several, to one ONNX file.

    Args:
        experiments: one experiment, or the members of an ensemble.
        overrides: changes of the settings, "testing settings.key=value".
        output: the file, whose name without the ending is then the name of the network; None:
            `<name>/<name>.onnx` in the folder of the experiments.
        float16_weights: store the weights as `with_float16_weights` does.

    Raises:
        UserError: as `read_keras_network` or `read_keras_ensemble`; the backend of Keras is not TensorFlow.
    """
    configurations = [experiment_configuration(experiment, overrides) for experiment in experiments]
    if len(experiments) == 1:
        network, _ = read_keras_network(experiments[0], overrides)
    else:
        network = read_keras_ensemble(experiments, overrides)
    if output is None:
        output = Experiment(experiments[0].folder.parent / network.name, network.name).onnx
    else:
        network = replace(network, name=output.stem)
    weights = [
        experiment.weights(configuration.testing_settings.best_last)
        for experiment, configuration in zip(experiments, configurations, strict=True)
    ]
    # The weights are read again: the file is in float32, whatever the precision of the prediction.
    members = [trained_model(*one) for one in zip(configurations, weights, strict=True)]
    for file, sha256 in zip(weights, network.weights_sha256.split(), strict=True):
        refuse_replaced_weights(file, sha256)
    write_onnx(members, network, configurations[0], output, float16_weights=float16_weights)
    return output


def write_onnx(
    members: Sequence[keras.Model],
    network: TrainedNetwork,
    configuration: Configuration,
    file: Path,
    *,
    float16_weights: bool = False,
) -> None:
    """Write the mean of the models and the description of the network, which `read_onnx_network` reads.

    Raises:
        UserError: as `onnx_model`.
    """
    exported = onnx_mean([onnx_model(member) for member in members])
    smaller = onnx.ModelProto()
    smaller.CopyFrom(exported)
    with_float16_weights(smaller.graph)
    description = network_metadata(network, configuration, (exported.graph, smaller.graph))
    folded = side_by_side_model([fold_for_prediction(member, upsampling=False) for member in members])
    description[BYTES_PER_PIXEL_KEY] = activation_bytes_per_pixel(folded)
    metadata = json.dumps(description, sort_keys=True)
    exported = smaller if float16_weights else exported
    onnx.helper.set_model_props(exported, {METADATA_KEY: metadata})
    with written_atomically(file) as (beside,):
        onnx.save(exported, beside)


def onnx_mean(members: Sequence[onnx.ModelProto]) -> onnx.ModelProto:
    """One model with the mean of the outputs of all members, which have the same input.

    The converted graphs are joined, because the converter makes mistakes with the mean of Keras models: it
    sometimes loses the operator that removes an axis of the output.
    """
    if len(members) == 1:
        return members[0]
    mean = onnx.ModelProto()
    mean.CopyFrom(members[0])
    (image,), (probability,) = mean.graph.input, mean.graph.output
    for repeated in (mean.graph.node, mean.graph.initializer, mean.graph.value_info):
        del repeated[:]
    outputs = []
    for number, member in enumerate(members):
        part = onnx.compose.add_prefix(member, f"member{number}/").graph
        for node in part.node:
            node.input[:] = [image.name if name == part.input[0].name else name for name in node.input]
        mean.graph.node.extend(part.node)
        mean.graph.initializer.extend(part.initializer)
        outputs.append(part.output[0].name)
    mean.graph.node.append(onnx.helper.make_node("Mean", outputs, [probability.name]))
    return mean


def onnx_model(model: keras.Model) -> onnx.ModelProto:
    """Convert a model to ONNX: input (N, H, W, C) and output (N, H, W, 1), float32, with any N, H and W.

    Raises:
        UserError: the backend of Keras is not TensorFlow, or the converted model computes other numbers.
    """
    if keras.backend.backend() != "tensorflow":
        raise UserError(
            f"KERAS_BACKEND = {keras.backend.backend()}: expected tensorflow; only TensorFlow exports "
            "networks for any image size, and it can load weights of every backend"
        )
    model = _with_few_operators(model)
    images = np.random.default_rng(0).random((1, 32, 32, model.input_shape[-1]), np.float32)
    expected = np.asarray(model.predict_on_batch(images))  # a model must have been called before its export
    for _ in range(CONVERSIONS):
        exported = _converted(model)
        if _computes(exported, images, expected):
            return exported
    raise UserError(
        "the ONNX converter tf2onnx made a network with other probabilities than that of Keras: nothing "
        "written; use the package versions of requirements/lock.txt, and report this"
    )


def _converted(model: keras.Model) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the exporter of Keras uses np.object
        file = Path(folder) / "network.onnx"
        model.export(file, format="onnx", verbose=False)
        exported = onnx.load(file)
    _with_constant_scales(exported.graph)
    return exported


def _computes(exported: onnx.ModelProto, images: np.ndarray, expected: np.ndarray) -> bool:
    session = onnxruntime.InferenceSession(exported.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: images})
    return found.shape == expected.shape and np.allclose(found, expected, atol=1e-3)


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


def with_float16_weights(graph: onnx.GraphProto) -> None:
    """Store kernels as float16 and cast them to float32 in the graph, so that the file halves.

    The computation stays in float32: engines cast the constants once, when they load the file. Tensors of one
    dimension (bias, batch normalisation) are small and stay as they are, also kernels with values outside the
    range of float16.
    """
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            continue
        stored, name = f"{tensor.name}_float16", tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), stored))
        casts.append(onnx.helper.make_node("Cast", [stored], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]  # a tensor must be computed before it is used
    del graph.node[:]
    graph.node.extend(nodes)
