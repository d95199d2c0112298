"""Which nodes compute in FP16, and the casts that decision puts into a graph.

The decision is taken once, on the prepared graph, and applied in two ways: `cast_to_half` makes the
tensors really FP16 (strong flavour); `round_to_half` keeps them FP32 and puts a Cast-to-half-and-back
pair wherever the strong flavour has an FP16 tensor (reference flavour), because ONNX Runtime does
not round FP16-typed tensors on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import onnx
import onnx_ir as ir

from trt_mpq.graph_edit import add_constant, constant_array, insert_node, take_over
from trt_mpq.numerics import FLOAT16_MAX, FloatArray
from trt_mpq.types import Grouping, Precision, PrecisionPlan, Ranges

FLOAT, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16

SCHEMA_OPSET = 19
"""Opset whose schemas decide what may be FP16: the lowest that the strong flavour uses."""

_VALUE_PRESERVING = frozenset(
    "Relu MaxPool Reshape Flatten Squeeze Unsqueeze Transpose Identity Slice Split Concat Gather Expand Tile "
    "Pad Clip Max Min DepthToSpace SpaceToDepth GlobalMaxPool ReduceMax ReduceMin Abs Neg".split()
)
"""Ops whose results are values they were given: FP16 in, FP16 out, nothing to round."""

Converter = Callable[[ir.Graph, ir.Value], ir.Value]


def half_nodes(graph: ir.Graph, grouping: Grouping, plan: PrecisionPlan, ranges: Ranges) -> frozenset[str]:
    """Names of the nodes that compute in FP16 under `plan`.

    A node stays FP32 if the ONNX schema has no FP16 form of it, if it belongs to an FP32 group, or if
    a tensor it touches exceeds the FP16 range in `ranges`.
    """
    precisions = plan.as_dict()
    wide = {name for group in grouping.groups if precisions[group.id] is Precision.FP32 for name in group.nodes}
    return frozenset(str(node.name) for node in graph if node.name not in wide and _may_be_half(node, ranges))


def cast_to_half(graph: ir.Graph, half: frozenset[str]) -> None:
    """Make the `half` nodes and their tensors FP16 in place, with a Cast wherever the type changes."""
    produced = [value for node in graph if node.name in half for value in node.outputs if value.dtype is FLOAT]
    for node in graph:
        if node.name in half:
            _retarget_attributes(node)
    _convert_reads(graph, half, frozenset(produced), tensor=_cast(HALF, "_fp16"), constant=_half_constant)
    for value in produced:
        value.type = ir.TensorType(HALF)
        _widen_other_reads(graph, value, half)


def round_to_half(graph: ir.Graph, half: frozenset[str], rounded: Callable[[ir.Value], FloatArray]) -> None:
    """Round every tensor of the `half` nodes to FP16 values in place; all tensors stay FP32.

    Args:
        graph: The FP32 graph to change.
        half: Names from `half_nodes`.
        rounded: Gives the FP16-representable content of a constant.
    """
    done: set[ir.Value] = set()
    for node in [node for node in graph if node.name in half]:
        for value in [value for value in node.outputs if value.dtype is FLOAT]:
            done.add(value if node.op_type in _VALUE_PRESERVING else _round_after(graph, node, value))

    def constant(graph: ir.Graph, value: ir.Value) -> ir.Value:
        return add_constant(graph, f"{value.name}_rounded", rounded(value))

    _convert_reads(graph, half, frozenset(done), tensor=_round_read, constant=constant)


def _may_be_half(node: ir.Node, ranges: Ranges) -> bool:
    values = [value for value in (*node.inputs, *node.outputs) if value is not None]
    outputs = [i for i, value in enumerate(node.outputs) if value.dtype is FLOAT]
    return (
        any(value.dtype is FLOAT for value in values)
        and all(_schema_allows_half(node, _schema(node).outputs, i) for i in outputs)
        and not any(_exceeds_half(value, ranges) for value in values)
    )


def _schema(node: ir.Node) -> onnx.defs.OpSchema:
    return onnx.defs.get_schema(node.op_type, SCHEMA_OPSET, node.domain)


def _schema_allows_half(node: ir.Node, formals: Sequence[onnx.defs.OpSchema.FormalParameter], index: int) -> bool:
    formal = formals[min(index, len(formals) - 1)]
    for constraint in _schema(node).type_constraints:
        if constraint.type_param_str == formal.type_str:
            return "tensor(float16)" in constraint.allowed_type_strs
    return False


def _reads_half(node: ir.Node, index: int, half: frozenset[str]) -> bool:
    return node.name in half and _schema_allows_half(node, _schema(node).inputs, index)


def _exceeds_half(value: ir.Value, ranges: Ranges) -> bool:
    if value.const_value is not None and value.dtype is FLOAT:
        return bool(np.abs(constant_array(value)).max(initial=0.0) > FLOAT16_MAX)
    observed = ranges.tensors.get(str(value.name))
    return observed is not None and observed.magnitude > FLOAT16_MAX


def _float_reads(graph: ir.Graph, half: frozenset[str]) -> Iterable[tuple[ir.Node, int, ir.Value]]:
    for node in [node for node in graph if node.name in half]:
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype is FLOAT and _reads_half(node, index, half):
                yield node, index, value


def _convert_reads(
    graph: ir.Graph, half: frozenset[str], halved: frozenset[ir.Value], *, tensor: Converter, constant: Converter
) -> None:
    """Give every half node half-valued inputs, converting each tensor or constant at most once."""
    converted: dict[ir.Value, ir.Value] = {}
    for node, index, value in _float_reads(graph, half):
        if value in halved:
            continue
        if value not in converted:
            converted[value] = (constant if value.const_value is not None else tensor)(graph, value)
        node.replace_input_with(index, converted[value])


def _widen_other_reads(graph: ir.Graph, value: ir.Value, half: frozenset[str]) -> None:
    users = [(user, i) for user, i in value.uses() if not _reads_half(user, i, half)]
    if users:
        wide = _cast(FLOAT, "_fp32")(graph, value)
        for user, index in users:
            user.replace_input_with(index, wide)
    for i, output in enumerate(graph.outputs):
        if output is value:
            name = value.name
            value.name = f"{name}_fp16"
            graph.outputs[i] = _cast(FLOAT, "_out")(graph, value)
            graph.outputs[i].name = name


def _retarget_attributes(node: ir.Node) -> None:
    if node.op_type == "Cast" and node.attributes["to"].as_int() == FLOAT:
        node.attributes["to"] = ir.AttrInt64("to", HALF)
    if node.op_type == "ConstantOfShape" and "value" in node.attributes:
        fill = node.attributes["value"].as_tensor().numpy().astype(np.float16)
        node.attributes["value"] = ir.AttrTensor("value", ir.tensor(fill))


def _half_constant(graph: ir.Graph, value: ir.Value) -> ir.Value:
    return add_constant(graph, f"{value.name}_fp16", constant_array(value).astype(np.float16))


def _cast(dtype: ir.DataType, suffix: str) -> Converter:
    def convert(graph: ir.Graph, value: ir.Value) -> ir.Value:
        return insert_node(
            graph,
            "Cast",
            [value],
            f"{value.name}{suffix}",
            after=value.producer(),
            dtype=dtype,
            attributes={"to": dtype},
        )

    return convert


def _round_read(graph: ir.Graph, value: ir.Value) -> ir.Value:
    return _cast(FLOAT, "_rounded")(graph, _cast(HALF, "_half")(graph, value))


def _round_after(graph: ir.Graph, node: ir.Node, value: ir.Value) -> ir.Value:
    half = _cast(HALF, "_half")(graph, value)
    back = _cast(FLOAT, "_rounded")(graph, half)
    reader = half.producer()
    if reader is None:
        raise AssertionError("a Cast that was just inserted has a producer")
    take_over(graph, value, back, reader=reader, suffix="_exact")
    return back
