"""Where bias corrections go: the constant that is added per output channel behind a weighted operator."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from trt_mpq.graph.edit import add_constant, constant_array
from trt_mpq.numerics import FloatArray
from trt_mpq.types import LayerGroup, Weight

_BIAS_INPUT = 2
"""Where Conv, ConvTranspose and Gemm read their bias."""


def takes_bias(graph: ir.Graph, weight: Weight) -> bool:
    """Whether there is a bias behind the weight, or its operator has an input for one, which MatMul has not."""
    return weight.bias is not None or graph.node(weight.node).op_type != "MatMul"


def add_to_bias(graph: ir.Graph, group: LayerGroup, weight: Weight, delta: FloatArray) -> None:
    """Add `delta`, shape ``(output channels,)``, to what `group` adds per output channel behind its `weight`.

    The anchor gets a bias of its own, also where several shared one.

    Raises:
        ValueError: The anchor is a MatMul without a bias Add, which has no place for one.
    """
    node, index = bias_input(graph, group, weight)
    bias = node.inputs[index] if index < len(node.inputs) else None
    shape = _lined_up(node, weight)
    content = np.zeros(delta.reshape(shape).shape, np.float32) if bias is None else constant_array(bias)
    if node.op_type == "Gemm":
        content = content * np.float32(node.attributes.get_float("beta", 1.0))
        node.attributes["beta"] = ir.AttrFloat32("beta", 1.0)
    shifted = content + delta.reshape(content.shape if content.size == delta.size else shape)
    node.resize_inputs(max(len(node.inputs), index + 1))
    node.replace_input_with(index, add_constant(graph, f"{weight.node}_corrected_bias", shifted.astype(np.float32)))


def bias_input(graph: ir.Graph, group: LayerGroup, weight: Weight) -> tuple[ir.Node, int]:
    """The node and input number that read the bias of `weight`, or would read one.

    Raises:
        ValueError: Nothing could read one.
    """
    if weight.bias is None:
        if not takes_bias(graph, weight):
            raise ValueError(f"{weight.node} is a MatMul without a bias: it cannot take one")
        return graph.node(weight.node), _BIAS_INPUT
    nodes = (graph.node(name) for name in group.nodes[group.nodes.index(weight.node) :])
    return next(
        (node, index)
        for node in nodes
        for index, value in enumerate(node.inputs)
        if value is not None and value.name == weight.bias
    )


def _lined_up(node: ir.Node, weight: Weight) -> tuple[int, ...]:
    """The shape in which one value per output channel is added: a convolution takes a vector, others broadcast."""
    behind = 0 if node.op_type in ("Conv", "ConvTranspose") else weight.rank - 1 - weight.channel_axis
    return (-1, *[1] * behind)
