"""The cost of a network: parameters, multiply-adds and memory of a forward pass, receptive field."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

import models
from models import Tensor
from models.blocks import CBAM

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Application:
    """One call of a layer. A shared layer has several.

    Attributes:
        layer: the layer that is called.
        inputs: for each input the index of the application that computes it; the image has none.
        shape_in: shape of the first input.
        shape_out: shape of the output.
    """

    layer: layers.Layer
    inputs: tuple[int, ...]
    shape_in: Shape
    shape_out: Shape


def applications(model: keras.Model, height: int, width: int) -> list[Application]:
    """Every call of a layer for one image (height, width), each after those that compute its inputs."""
    found: list[Application] = []
    index_of: dict[int, int] = {}
    outputs = []  # keeps the tensors, so that no other tensor gets the id of one of them

    def call(layer: layers.Layer, *inputs: Any, **arguments: Any) -> Tensor:
        tensors = keras.tree.flatten(inputs)
        output = layer(*inputs, **arguments)
        indices = tuple(index_of[id(tensor)] for tensor in tensors if id(tensor) in index_of)
        index_of[id(output)] = len(found)
        outputs.append(output)
        found.append(Application(layer, indices, tuple(tensors[0].shape), tuple(output.shape)))
        return output

    keras.models.clone_model(
        model,
        input_tensors=keras.Input(batch_shape=(1, height, width, model.input_shape[-1])),
        clone_function=lambda layer: layer,
        call_function=call,
    )
    return found


def multiply_adds(model: keras.Model, height: int, width: int) -> int:
    """Number of multiplications with an addition for one image (height, width).

    Counts convolutions, dense layers and attention. Sums, activations, normalisation, pooling and the
    mirrored border, a few per cent, are not counted. The number of FLOPs is twice as high.
    """
    return sum(_multiply_adds(application) for application in applications(model, height, width))


def activation_bytes_per_pixel(model: keras.Model) -> int:
    """Memory of the activations of a prediction, for each pixel of the image, in bytes of float32.

    It is the largest set that is needed at one time, if the layers are computed one after the other: all
    outputs that a later layer needs, and the inputs and the output of a layer a second time, since the
    libraries copy them into the layout of their convolutions. With TensorFlow on a CPU, eight networks used
    .55 to 1.13 times as much. Networks inside `model`, the members of a mean, count as computed together.
    """
    side = 256
    calls = applications(model, side, side)
    sizes = [math.prod(call.shape_out) for call in calls]
    last_use = {index: number for number, call in enumerate(calls) for index in (number, *call.inputs)}
    inside = sum(activation_bytes_per_pixel(c.layer) for c in calls if isinstance(c.layer, keras.Model))
    live, most = side**2 * model.input_shape[-1], 0  # the image stays
    for number, call in enumerate(calls):
        used = {number, *call.inputs}
        live += sizes[number]
        most = max(most, live + sum(sizes[index] for index in used))
        live -= sum(sizes[index] for index in used if last_use[index] == number)
    return inside + math.ceil(4 * most / side**2)


def receptive_field(model: keras.Model) -> float:
    """Side, in pixels, of the square on which one output pixel can depend; infinite with attention.

    The longest path counts, with the arithmetic of Araujo, Norris, Sim (Distill, 2019): a kernel of size k
    with dilation rate r widens the field by (k - 1) r steps of its input; strides lengthen the step,
    up-sampling shortens it. With up-sampling the result may be a pixel too small, since up-sampled pixels
    do not lie in the middle of the pixels from which they are computed.
    """
    fields: list[tuple[float, float]] = []
    for application in applications(model, 64, 64):
        incoming = [fields[index] for index in application.inputs]
        field = max((field for field, _ in incoming), default=1.0)
        step = max((step for _, step in incoming), default=1.0)
        fields.append(_field_and_step_after(application.layer, field, step))
    return fields[-1][0]


def markdown_table(rows: Iterable[tuple[str, tuple[int, ...], int, int]]) -> str:
    """Markdown table with one line for each (architecture, filters, side of the patch, channels)."""
    lines = [
        "| network | filters | channels | parameters | weights, MB | patch | GMAC a patch | GFLOP a patch "
        "| GMAC at 584x565 | GFLOP at 584x565 | receptive field |",
        "|" + "---|" * 11,
    ]
    for architecture, filters, side, channels in rows:
        keras.backend.clear_session()
        model = models.build(architecture, filters=filters, dropout=0.1, channels=channels)
        patch, image = (multiply_adds(model, *size) / 1e9 for size in ((side, side), (584, 565)))
        field = receptive_field(model)
        shown = "the image" if math.isinf(field) else f"{field:.0f}"
        lines.append(
            f"| `{architecture}` | {' '.join(map(str, filters))} | {channels} | {model.count_params():,} "
            f"| {4 * model.count_params() / 1e6:.1f} | {side} | {patch:.3f} | {2 * patch:.3f} "
            f"| {image:.2f} | {2 * image:.2f} | {shown} |"
        )
    return "\n".join(lines)


def _multiply_adds(application: Application) -> int:
    layer, shape_in, shape_out = application.layer, application.shape_in, application.shape_out
    pixels = math.prod(shape_out[1:3])
    if isinstance(layer, CBAM):
        perceptron = math.prod(layer.hidden.kernel.shape) + math.prod(layer.channel_logits.kernel.shape)
        return 2 * perceptron + pixels * math.prod(layer.spatial_gate.kernel.shape)
    # Before Conv2D: separable and transposed convolutions may be subclasses of a convolution.
    if isinstance(layer, layers.SeparableConv2D):
        return pixels * shape_in[-1] * (math.prod(layer.kernel_size) + shape_out[-1])
    if isinstance(layer, layers.Conv2DTranspose):
        return math.prod(shape_in[1:3]) * math.prod(layer.kernel.shape)
    if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
        return pixels * math.prod(layer.kernel.shape)
    return 0


def _field_and_step_after(layer: layers.Layer, field: float, step: float) -> tuple[float, float]:
    if isinstance(layer, CBAM):
        return math.inf, step
    if isinstance(layer, layers.UpSampling2D):
        return field, step / layer.size[0]
    if isinstance(layer, layers.Conv2DTranspose):
        stride, kernel = layer.strides[0], layer.kernel_size[0]
        return field + (math.ceil(kernel / stride) - 1) * step, step / stride
    if isinstance(layer, layers.MaxPooling2D):
        size = layer.pool_size[0]
        return field + (size - 1) * step, step * size
    if isinstance(layer, layers.Conv2D | layers.SeparableConv2D | layers.DepthwiseConv2D):
        reach = (layer.kernel_size[0] - 1) * layer.dilation_rate[0]
        return field + reach * step, step * layer.strides[0]
    return field, step
