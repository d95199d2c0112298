"""Anchors: the weighted operators that TensorRT runs in 8 bit."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from trt_mpq.groups.arithmetic import multiply_adds
from trt_mpq.groups.shapes import elements, is_constant, shape_of


@dataclass(frozen=True)
class Anchor:
    """A weighted operator with static shapes.

    Attributes:
        node: Reads `data` as its first input and `weight` as its second.
        data: The activation, computed or fed.
        weight: The constant operand.
        bias: Constant third input, one value per output channel, or None.
        weight_axis: Axis of `weight` with one scale per index; None for one scale.
        channel_axis: Axis of `output` that holds output channels.
        channels: Input and output channels (K and N of a matrix product).
        kernel: Spatial shape of a convolution, empty for a matrix product.
        depthwise: Whether every input channel has filters of its own.
    """

    node: ir.Node
    data: ir.Value
    weight: ir.Value
    bias: ir.Value | None
    weight_axis: int | None
    channel_axis: int
    channels: tuple[int, int]
    kernel: tuple[int, ...] = ()
    depthwise: bool = False

    @property
    def output(self) -> ir.Value:
        """The tensor the operator writes."""
        return self.node.outputs[0]

    @property
    def flops(self) -> int:
        """Two per multiply-add, bias not counted."""
        return 2 * multiply_adds(self.node)


def anchor_of(node: ir.Node) -> Anchor | None:
    """The anchor that `node` is, or None if it is another operator or lacks a constant FP32 weight.

    A third input that is not one constant per output channel also makes it None: it is no bias, and
    nothing else fits into the epilogue.
    """
    describe = {"Conv": _conv, "ConvTranspose": _conv_transpose, "Gemm": _gemm, "MatMul": _matmul}.get(node.op_type)
    if describe is None or is_constant(node.inputs[0]) or not is_constant(node.inputs[1]):
        return None
    weight = node.inputs[1]
    if weight is None or weight.dtype is not ir.DataType.FLOAT or len(shape_of(weight)) < 2:
        return None
    anchor = describe(node)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and not (is_constant(bias) and elements(bias) in (1, anchor.channels[1])):
        return None
    return anchor


def _operands(node: ir.Node) -> tuple[ir.Value, ir.Value, ir.Value | None]:
    data, weight = node.inputs[:2]
    assert data is not None
    assert weight is not None
    return data, weight, node.inputs[2] if len(node.inputs) > 2 else None


def _conv(node: ir.Node) -> Anchor:
    data, weight, bias = _operands(node)
    outputs, inputs_per_group, *kernel = shape_of(weight)
    group = node.attributes.get_int("group", 1)
    inputs = inputs_per_group * group
    return Anchor(
        node, data, weight, bias,
        weight_axis=0, channel_axis=1,
        channels=(inputs, outputs), kernel=tuple(kernel), depthwise=group == inputs > 1,
    )  # fmt: skip


def _conv_transpose(node: ir.Node) -> Anchor:
    data, weight, bias = _operands(node)
    inputs, outputs_per_group, *kernel = shape_of(weight)
    group = node.attributes.get_int("group", 1)
    return Anchor(
        node, data, weight, bias,
        weight_axis=1, channel_axis=1,
        channels=(inputs, outputs_per_group * group), kernel=tuple(kernel), depthwise=group == inputs > 1,
    )  # fmt: skip


def _gemm(node: ir.Node) -> Anchor:
    data, weight, bias = _operands(node)
    axis = 0 if node.attributes.get_int("transB", 0) else 1
    inputs, outputs = shape_of(weight)[1 - axis], shape_of(weight)[axis]
    return Anchor(node, data, weight, bias, weight_axis=axis, channel_axis=1, channels=(inputs, outputs))


def _matmul(node: ir.Node) -> Anchor:
    data, weight, _ = _operands(node)
    *batch, inputs, outputs = shape_of(weight)
    return Anchor(
        node, data, weight, None,
        weight_axis=None if batch else 1, channel_axis=len(shape_of(node.outputs[0])) - 1,
        channels=(inputs, outputs),
    )  # fmt: skip
