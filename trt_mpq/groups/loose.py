"""What stays outside every group, and why."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from trt_mpq.graph.operators import CONTROL_FLOW, RECURRENT, VALUE_BLIND, WEIGHTED
from trt_mpq.groups.anchors import weight_index
from trt_mpq.groups.arithmetic import multiply_adds, uncounted
from trt_mpq.groups.shapes import elements, is_constant, is_float, shape_of
from trt_mpq.types import LayerGroup, LooseOp


def loose_ops(graph: ir.Graph, groups: Sequence[LayerGroup]) -> tuple[LooseOp, ...]:
    """Every node on floating-point data that is in none of `groups`, in network order."""
    grouped = {name for group in groups for name in group.nodes}
    return tuple(_loose_op(node) for node in graph if node.name not in grouped and _computes(node))


def _computes(node: ir.Node) -> bool:
    """Whether the node touches floating-point data, rather than integers that describe shapes."""
    touches = any(is_float(value) for value in (*node.inputs, *node.outputs))
    return touches and node.op_type not in VALUE_BLIND


def _loose_op(node: ir.Node) -> LooseOp:
    inputs = [value for value in node.inputs if is_float(value)]
    return LooseOp(
        node=str(node.name),
        op_type=node.op_type,
        inputs=tuple(str(value.name) for value in inputs),
        writes={str(value.name): elements(value) for value in node.outputs if value.name},
        input_elements=sum(elements(value) for value in inputs),
        flops=2 * multiply_adds(node),
        reason=_why_no_group(node),
    )


def _why_no_group(node: ir.Node) -> str | None:
    """Why a node that multiplies and adds, or looks up a table, stays in high precision; None for others."""
    data = node.inputs[0] if node.inputs else None
    if node.op_type == "Gather" and is_constant(data) and len(shape_of(_present(data))) > 1:
        return "a table look-up: it computes nothing, and 8-bit rows would be widened again at once"
    if node.op_type in RECURRENT:
        return "recurrent: TensorRT has no 8-bit kernels for it"
    if node.op_type in CONTROL_FLOW:
        left_out = uncounted(node)
        more = f"; {left_out} products inside are not counted, their shapes are unknown" if left_out else ""
        return f"control flow: it runs in high precision, untouched{more}"
    if node.op_type in WEIGHTED:
        return _why_no_anchor(node)
    return f"TensorRT has no 8-bit kernels for {node.op_type}" if multiply_adds(node) else None


def _why_no_anchor(node: ir.Node) -> str:
    data, other = node.inputs[:2]
    index = weight_index(node)
    if index is None:
        return "its weight is computed" if not (is_constant(data) or is_constant(other)) else "its data is a constant"
    weight = _present(node.inputs[index])
    if len(shape_of(weight)) < 2:
        return f"its weight {weight.name} is a vector: a product with it is bound by memory"
    if weight.dtype is not ir.DataType.FLOAT:
        return f"its weight {weight.name} is {weight.dtype}"
    return "its bias is not one constant per output channel"


def _present(value: ir.Value | None) -> ir.Value:
    assert value is not None
    return value
