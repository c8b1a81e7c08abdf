"""What a network costs: parameters, multiply-adds of a forward pass, receptive field."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import keras
from keras import layers

from models.blocks import CBAM

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Application:
    """One use of a layer, which may be used more than once."""

    operation: keras.Operation
    inputs: tuple[int, ...]
    """Numbers of the applications whose outputs it takes."""
    shape_in: Shape
    shape_out: Shape


def multiply_adds(model: keras.Model, height: int, width: int) -> int:
    """Multiplications with an addition, of one image (height, width) through the model.

    Convolutions, dense layers and attention are counted; sums, activations, normalisation, pooling
    and the mirrored border are not: a few per cent. FLOPs are twice as many.
    """
    return sum(_multiply_adds(a) for a in applications(model, height, width))


def receptive_field(model: keras.Model) -> float:
    """Side, in pixels, of the square that one output pixel can depend on; infinite with attention.

    Of the longest path, by the arithmetic of Araujo, Norris, Sim (Distill, 2019): a kernel of k with
    holes r widens the field by (k - 1) r steps of its input; strides lengthen the step, up-sampling
    shortens it. Where a network up-samples the figure may be a pixel too small, since up-sampled pixels
    do not lie in the middle of those they come from.
    """
    fields: list[tuple[float, float]] = []
    for application in applications(model, 64, 64):
        incoming = [fields[number] for number in application.inputs]
        field, step = (
            max((f for f, _ in incoming), default=1.0),
            max((s for _, s in incoming), default=1.0),
        )
        fields.append(_widened(application.operation, field, step))
    return fields[-1][0]


def applications(model: keras.Model, height: int, width: int) -> list[Application]:
    """Every use of a layer with its shapes for one image of that size, inputs before what they feed."""
    nodes = [
        node
        for depth in sorted(model._nodes_by_depth, reverse=True)
        for node in model._nodes_by_depth[depth]
    ]
    tensors = [node.output_tensors[0] for node in nodes]
    every_output = keras.Model(model.input, tensors)
    image = keras.KerasTensor((1, height, width, 1))
    shapes = [tuple(t.shape) for t in every_output.compute_output_spec(image)]
    number_of = {id(tensor): number for number, tensor in enumerate(tensors)}
    found = []
    for node, shape in zip(nodes, shapes, strict=True):
        inputs = tuple(number_of[id(tensor)] for tensor in node.input_tensors)
        shape_in = shapes[inputs[0]] if inputs else shape
        found.append(Application(node.operation, inputs, shape_in, shape))
    return found


def _multiply_adds(application: Application) -> int:
    operation, shape_in, shape = (
        application.operation,
        application.shape_in,
        application.shape_out,
    )
    for kind, count in _COUNTS.items():
        if isinstance(operation, kind):
            return count(operation, shape_in, shape)
    return 0


def _pixels(shape: Shape) -> int:
    return math.prod(shape[1:3])


def _separable(layer: layers.SeparableConv2D, shape_in: Shape, shape: Shape) -> int:
    channels = shape_in[-1]
    return _pixels(shape) * channels * (math.prod(layer.kernel_size) + shape[-1])


def _transposed(layer: layers.Conv2DTranspose, shape_in: Shape, shape: Shape) -> int:
    return _pixels(shape_in) * math.prod(layer.kernel_size) * shape_in[-1] * shape[-1]


def _convolution(layer: layers.Conv2D, shape_in: Shape, shape: Shape) -> int:
    return _pixels(shape) * math.prod(layer.kernel.shape)


def _attention(layer: CBAM, shape_in: Shape, shape: Shape) -> int:
    perceptron = math.prod(layer.hidden.kernel.shape) + math.prod(layer.channel_logits.kernel.shape)
    return 2 * perceptron + _pixels(shape) * math.prod(layer.spatial_gate.kernel.shape)


# Order matters: a separable or transposed convolution may count as a convolution too.
_COUNTS: dict[type, Callable[..., int]] = {
    layers.SeparableConv2D: _separable,
    layers.Conv2DTranspose: _transposed,
    layers.Conv2D: _convolution,
    CBAM: _attention,
}


def _widened(operation: keras.Operation, field: float, step: float) -> tuple[float, float]:
    """Receptive field and step after `operation`."""
    if isinstance(operation, CBAM):
        return math.inf, step
    if isinstance(operation, layers.UpSampling2D):
        return field, step / operation.size[0]
    if isinstance(operation, layers.Conv2DTranspose):
        stride, kernel = operation.strides[0], operation.kernel_size[0]
        return field + (math.ceil(kernel / stride) - 1) * step, step / stride
    if isinstance(operation, layers.MaxPooling2D):
        size = operation.pool_size[0]
        return field + (size - 1) * step, step * size
    if isinstance(operation, layers.Conv2D | layers.SeparableConv2D):
        reach = (operation.kernel_size[0] - 1) * operation.dilation_rate[0]
        return field + reach * step, step * operation.strides[0]
    return field, step


def table(rows: Iterator[tuple[str, tuple[int, ...], int]]) -> str:
    """Markdown: one line a network of (architecture, filters, patch side)."""
    from models import build

    lines = [
        "| network | filters | parameters | weights, MB | patch | GMAC a patch | GFLOP a patch "
        "| GMAC at 584x565 | GFLOP at 584x565 | receptive field |",
        "|" + "---|" * 10,
    ]
    for architecture, filters, side in rows:
        keras.backend.clear_session()
        model = build(architecture, filters=filters, dropout=0.1)
        patch, image = (multiply_adds(model, *size) / 1e9 for size in ((side, side), (584, 565)))
        field = receptive_field(model)
        shown = "the image" if math.isinf(field) else f"{field:.0f}"
        lines.append(
            f"| `{architecture}` | {' '.join(map(str, filters))} | {model.count_params():,} "
            f"| {4 * model.count_params() / 1e6:.1f} | {side} | {patch:.3f} | {2 * patch:.3f} "
            f"| {image:.2f} | {2 * image:.2f} | {shown} |"
        )
    return "\n".join(lines)
