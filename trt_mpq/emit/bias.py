"""Where bias corrections go: the constant that a group adds per output channel."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from trt_mpq.graph_edit import add_constant, constant_array, node_by_name
from trt_mpq.numerics import FloatArray
from trt_mpq.types import LayerGroup

_BIAS_INPUT = 2
"""Where Conv, ConvTranspose and Gemm read their bias."""


def add_to_bias(graph: ir.Graph, group: LayerGroup, delta: FloatArray) -> None:
    """Add `delta`, shape ``(output channels,)``, to what `group` adds per output channel.

    The group gets a bias of its own, also where several groups shared one.

    Raises:
        ValueError: The group is a MatMul without a bias Add, which has no place for one.
    """
    node, index = _bias_input(graph, group)
    bias = node.inputs[index] if index < len(node.inputs) else None
    content = np.zeros(delta.shape, np.float32) if bias is None else constant_array(bias)
    if node.op_type == "Gemm":
        content = content * np.float32(node.attributes.get_float("beta", 1.0))
        node.attributes["beta"] = ir.AttrFloat32("beta", 1.0)
    shifted = content + delta.reshape(_broadcast_shape(content, delta))
    node.resize_inputs(max(len(node.inputs), index + 1))
    node.replace_input_with(index, add_constant(graph, f"{group.id}_corrected_bias", shifted.astype(np.float32)))


def _bias_input(graph: ir.Graph, group: LayerGroup) -> tuple[ir.Node, int]:
    """The node and input number that read the group's bias, or would read one."""
    if group.bias is None:
        if group.op_type == "MatMul":
            raise ValueError(f"group {group.id} is a MatMul without a bias: it cannot take one")
        return node_by_name(graph, group.id), _BIAS_INPUT
    nodes = (node_by_name(graph, name) for name in group.nodes)
    return next(
        (node, index)
        for node in nodes
        for index, value in enumerate(node.inputs)
        if value is not None and value.name == group.bias
    )


def _broadcast_shape(bias: FloatArray, delta: FloatArray) -> tuple[int, ...]:
    """The shape in which `delta` lines up with a bias of shape ``(C,)``, ``(1, C)`` or ``(1, C, 1, 1)``."""
    return bias.shape if bias.size == delta.size else delta.shape
