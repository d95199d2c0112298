"""Which nodes compute in FP16, and the casts that decision puts into a graph.

The decision is taken once, on the prepared graph, and applied in two ways: `cast_to_half` makes the
tensors really FP16 (strong flavour); `round_to_half` keeps them FP32 and puts a Cast-to-half-and-back
pair wherever the strong flavour has an FP16 tensor (reference flavour), because ONNX Runtime does
not round FP16-typed tensors on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import onnx
import onnx_ir as ir

from trt_mpq.graph_edit import add_constant, constant_array, insert_node, take_over
from trt_mpq.numerics import FLOAT16_MAX, FloatArray
from trt_mpq.types import Ranges

FLOAT, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16

STRONG_OPSET = 19
"""Lowest opset of the strong flavour; the schemas of this one, or of the model's own if newer, say what may be FP16."""

VALUE_PRESERVING = frozenset(
    {
        *("Relu", "Clip", "Max", "Min", "Abs", "Neg", "MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin"),
        *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "DepthToSpace", "SpaceToDepth"),
        *("Slice", "Split", "Concat", "Gather", "Expand", "Tile", "Pad"),
    }
)
"""Ops whose results are values they were given, up to the sign: FP16 in, FP16 out, nothing to round."""

_VALUE_BLIND = frozenset({"Shape", "Size"})
"""Ops that read no values: they take a tensor in whatever type it has."""

Converter = Callable[[ir.Graph, ir.Value], ir.Value]
Reads = Mapping[tuple[ir.Node, int], ir.Value]
"""(node, input number) to the FP32 tensor or constant that is read there and shall be FP16."""
Results = Mapping[ir.Value, ir.Node]
"""FP32 tensor that shall be FP16 to the node that writes it."""


def half_capable(graph: ir.Model, ranges: Ranges) -> frozenset[str]:
    """Names of the nodes that may compute in FP16.

    A node may not if the ONNX schema has no FP16 form of it, or if a tensor or constant it touches
    exceeds the FP16 range (`ranges` has the extremes of every tensor).
    """
    opset = max(STRONG_OPSET, graph.opset_imports[""])
    return frozenset(str(node.name) for node in graph.graph if _may_be_half(node, opset, ranges))


def cast_to_half(graph: ir.Model, half: frozenset[str]) -> None:
    """Make the nodes named in `half` and their tensors FP16 in place, with a Cast wherever the type changes."""
    reads, results = _half_reads(graph, half), _half_results(graph, half)
    _convert(graph.graph, reads, results, tensor=_cast(HALF, "_fp16"), constant=_half_constant)
    for value, node in results.items():
        if node.op_type == "Cast":
            node.attributes["to"] = ir.AttrInt64("to", HALF)
        value.type = ir.TensorType(HALF)
        _widen_other_reads(graph.graph, value, reads)


def round_to_half(graph: ir.Model, half: frozenset[str], rounded: Callable[[ir.Value], FloatArray]) -> None:
    """Round every tensor of the nodes named in `half` to FP16 values in place; all tensors stay FP32.

    Args:
        graph: The FP32 graph to change.
        half: Names out of `half_capable`.
        rounded: Gives the FP16-representable content of a constant.
    """

    def constant(graph: ir.Graph, value: ir.Value) -> ir.Value:
        return add_constant(graph, f"{value.name}_rounded", rounded(value))

    reads, results = _half_reads(graph, half), _half_results(graph, half)
    _convert(graph.graph, reads, results, tensor=_rounded_copy, constant=constant)
    for value, node in results.items():
        if node.op_type not in VALUE_PRESERVING:
            _round_in_place(graph.graph, value)


def _may_be_half(node: ir.Node, opset: int, ranges: Ranges) -> bool:
    values = [value for value in (*node.inputs, *node.outputs) if value is not None]
    floats = any(value.dtype is FLOAT for value in values)
    return (
        floats
        and node.op_type not in _VALUE_BLIND
        and _writes_half(node, opset)
        and not any(_exceeds_half(value, ranges) for value in values)
    )


def _writes_half(node: ir.Node, opset: int) -> bool:
    """Whether all FP32 results become FP16 once all inputs are that may be.

    Results of a type of their own (ConstantOfShape, EyeLike) do not; a Cast is told to by its attribute.
    """
    takes, gives = _half_parameters(node.op_type, opset)
    given = {_at(takes, i) for i, value in enumerate(node.inputs) if value is not None and value.dtype is FLOAT}
    results = {_at(gives, i) for i, value in enumerate(node.outputs) if value.dtype is FLOAT}
    return None not in results and (node.op_type == "Cast" or results <= given)


@cache
def _half_parameters(op_type: str, opset: int) -> tuple[tuple[str | None, ...], tuple[str | None, ...]]:
    """Type parameter of every input and output of an operator that may be FP16; None for the others."""
    schema = onnx.defs.get_schema(op_type, opset)
    halves = {c.type_param_str for c in schema.type_constraints if "tensor(float16)" in c.allowed_type_strs}

    def parameters(formals: list[onnx.defs.OpSchema.FormalParameter]) -> tuple[str | None, ...]:
        return tuple(formal.type_str if formal.type_str in halves else None for formal in formals)

    return parameters(list(schema.inputs)), parameters(list(schema.outputs))


def _at(parameters: tuple[str | None, ...], index: int) -> str | None:
    """The parameter at `index`; a variadic operator repeats its last one."""
    return parameters[min(index, len(parameters) - 1)]


def _exceeds_half(value: ir.Value, ranges: Ranges) -> bool:
    if value.const_value is not None and value.dtype is FLOAT:
        return bool(np.abs(constant_array(value)).max(initial=0.0) > FLOAT16_MAX)
    observed = ranges.tensors.get(str(value.name))
    return observed is not None and observed.magnitude > FLOAT16_MAX


def _half_reads(graph: ir.Model, half: frozenset[str]) -> Reads:
    opset = max(STRONG_OPSET, graph.opset_imports[""])
    return {
        (node, index): value
        for node in graph.graph
        for index, value in enumerate(node.inputs)
        if node.name in half and value is not None and value.dtype is FLOAT
        if _at(_half_parameters(node.op_type, opset)[0], index) is not None
    }


def _half_results(graph: ir.Model, half: frozenset[str]) -> Results:
    return {value: node for node in graph.graph if node.name in half for value in node.outputs if value.dtype is FLOAT}


def _convert(graph: ir.Graph, reads: Reads, results: Results, *, tensor: Converter, constant: Converter) -> None:
    """Give every half read that is no result of a half node a converted copy, one per tensor or constant."""
    copies: dict[ir.Value, ir.Value] = {}
    for (node, index), value in reads.items():
        if value not in results:
            if value not in copies:
                copies[value] = (constant if value.const_value is not None else tensor)(graph, value)
            node.replace_input_with(index, copies[value])


def _widen_other_reads(graph: ir.Graph, value: ir.Value, reads: Reads) -> None:
    """Give whoever cannot read the FP16 `value`, the graph's outputs included, an FP32 copy under its name."""

    def keeps(node: ir.Node, index: int) -> bool:
        return (node, index) in reads or node.op_type in _VALUE_BLIND

    if value.is_graph_output() or not all(keeps(node, index) for node, index in value.uses()):
        wide = _cast(FLOAT, "_fp32")(graph, value)
        cast = wide.producer()
        take_over(graph, value, wide, keeps=lambda node, index: node is cast or keeps(node, index), suffix="_fp16")


def _half_constant(graph: ir.Graph, value: ir.Value) -> ir.Value:
    return add_constant(graph, f"{value.name}_fp16", constant_array(value).astype(np.float16))


def _cast(dtype: ir.DataType, suffix: str) -> Converter:
    def convert(graph: ir.Graph, value: ir.Value) -> ir.Value:
        name = f"{value.name}{suffix}"
        return insert_node(
            graph, "Cast", [value], name, after=value.producer(), dtype=dtype, attributes={"to": dtype}
        )  # fmt: skip

    return convert


def _rounded_copy(graph: ir.Graph, value: ir.Value) -> ir.Value:
    return _cast(FLOAT, "_rounded")(graph, _cast(HALF, "_half")(graph, value))


def _round_in_place(graph: ir.Graph, value: ir.Value) -> None:
    half = _cast(HALF, "_half")(graph, value)
    back = _cast(FLOAT, "_rounded")(graph, half)
    take_over(graph, value, back, keeps=lambda node, _: node is half.producer(), suffix="_exact")
