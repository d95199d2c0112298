"""Anchors: the weighted operators that TensorRT runs in 8 bit."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from trt_mpq.graph.operators import PRODUCTS
from trt_mpq.groups.arithmetic import multiply_adds
from trt_mpq.groups.shapes import elements, is_constant, shape_of


@dataclass(frozen=True)
class Anchor:
    """A weighted operator with static shapes.

    Attributes:
        node: Reads `data` and `weight` as its first two inputs.
        data: The activation, computed or fed.
        weight: The constant operand.
        bias: Constant third input, one value per output channel, or None.
        weight_axis: Axis of `weight` with one scale per index; None for one scale.
        channel_axis: Axis of `output` that holds output channels.
        channels: Input and output channels (K and N of a matrix product).
        kernel: Spatial shape of a convolution, empty for a matrix product.
        depthwise: Whether every input channel has filters of its own.
        weight_index: Which input `weight` is: the second, or the first in a product with the weight on the left.
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
    weight_index: int = 1

    @property
    def data_index(self) -> int:
        """Which input `data` is."""
        return 1 - self.weight_index

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
    index = weight_index(node)
    if describe is None or index is None:
        return None
    weight = node.inputs[index]
    if weight is None or weight.dtype is not ir.DataType.FLOAT or len(shape_of(weight)) < 2:
        return None
    anchor = describe(node, index)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and not (is_constant(bias) and _is_bias(bias, anchor)):
        return None
    return anchor


def weight_index(node: ir.Node) -> int | None:
    """Which input of a weighted operator is its constant operand; None if both or neither are.

    It is the first in a product with the weight on the left, such as that of an adjacency matrix and features.
    """
    stored = [is_constant(value) for value in node.inputs[:2]]
    if sum(stored) != 1 or (stored[0] and node.op_type not in PRODUCTS):
        return None
    return stored.index(True)


def _is_bias(constant: ir.Value, anchor: Anchor) -> bool:
    """Whether a constant third input is one value, or one per output channel: for rows of a result, in a column."""
    if elements(constant) == 1:
        return True
    rows = anchor.weight_index == 0
    return elements(constant) == anchor.channels[1] and (not rows or shape_of(constant)[-1] == 1)


def _operands(node: ir.Node, index: int) -> tuple[ir.Value, ir.Value, ir.Value | None]:
    """Data, weight and bias, where the weight is input number `index`."""
    data, weight = node.inputs[1 - index], node.inputs[index]
    assert data is not None
    assert weight is not None
    return data, weight, node.inputs[2] if len(node.inputs) > 2 else None


def _conv(node: ir.Node, index: int) -> Anchor:
    data, weight, bias = _operands(node, index)
    outputs, inputs_per_group, *kernel = shape_of(weight)
    group = node.attributes.get_int("group", 1)
    inputs = inputs_per_group * group
    return Anchor(
        node, data, weight, bias,
        weight_axis=0, channel_axis=1,
        channels=(inputs, outputs), kernel=tuple(kernel), depthwise=group == inputs > 1,
    )  # fmt: skip


def _conv_transpose(node: ir.Node, index: int) -> Anchor:
    data, weight, bias = _operands(node, index)
    inputs, outputs_per_group, *kernel = shape_of(weight)
    group = node.attributes.get_int("group", 1)
    return Anchor(
        node, data, weight, bias,
        weight_axis=1, channel_axis=1,
        channels=(inputs, outputs_per_group * group), kernel=tuple(kernel), depthwise=group == inputs > 1,
    )  # fmt: skip


def _gemm(node: ir.Node, index: int) -> Anchor:
    data, weight, bias = _operands(node, index)
    axis = index ^ node.attributes.get_int(("transA", "transB")[index], 0)
    inputs, outputs = shape_of(weight)[1 - axis], shape_of(weight)[axis]
    return Anchor(
        node, data, weight, bias,
        weight_axis=axis, channel_axis=index, channels=(inputs, outputs), weight_index=index,
    )  # fmt: skip


def _matmul(node: ir.Node, index: int) -> Anchor:
    data, weight, _ = _operands(node, index)
    *batch, rows, columns = shape_of(weight)
    behind = 1 if index == 0 and len(shape_of(data)) > 1 else 0
    return Anchor(
        node, data, weight, None,
        weight_axis=None if batch else index, channel_axis=len(shape_of(node.outputs[0])) - 1 - behind,
        channels=(rows, columns) if index else (columns, rows), weight_index=index,
    )  # fmt: skip
