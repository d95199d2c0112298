"""Which nodes compute in FP16 or BF16, and the casts that decision puts into a graph.

The decision is taken once, on the prepared graph, and applied in two ways: `cast_to_half` makes the
tensors really 16 bit wide (strong flavour); `round_to_half` keeps them FP32 and puts a Cast-to-half-and-back
pair wherever the strong flavour has a 16-bit tensor (reference flavour), because ONNX Runtime on the CPU does
not round FP16-typed tensors and has hardly a kernel for BF16. "Half" is either of both types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import onnx
import onnx_ir as ir

from trt_mpq.graph.control_flow import has_body
from trt_mpq.graph.edit import add_constant, constant_array, eliminate_identities, insert_node, take_over
from trt_mpq.graph.operators import VALUE_BLIND, VALUE_PRESERVING
from trt_mpq.numerics import LARGEST, FloatArray, constant_in_half
from trt_mpq.types import Precision, Ranges

_FLOAT = ir.DataType.FLOAT
_DATA_TYPES = {Precision.FP16: ir.DataType.FLOAT16, Precision.BF16: ir.DataType.BFLOAT16}

_Converter = Callable[[ir.Graph, ir.Value, Precision], ir.Value]
_Reads = Mapping[tuple[ir.Node, int], Precision]
"""(node, input number) where an FP32 tensor or constant is read that shall be half, to the type wanted there."""
_Results = Mapping[ir.Value, Precision]
"""FP32 tensor that shall be half, written by a node that computes so, to its type."""


def half_capable(graph: ir.Model, ranges: Ranges, half: Precision) -> frozenset[str]:
    """Names of the nodes that may compute in `half`, FP16 or BF16.

    A node may not if the ONNX schema has no such form of it, or if a tensor or constant it touches
    exceeds the range (`ranges` has the extremes of every tensor). Control flow may not, whose bodies are FP32.
    """
    opset = _opset(graph, half)
    return frozenset(str(node.name) for node in graph.graph if _may_be_half(node, opset, ranges, half))


def cast_to_half(graph: ir.Model, types: Mapping[str, Precision]) -> None:
    """Give the nodes named in `types` and their tensors those types in place, with a Cast where the type changes."""
    reads, results = _half_reads(graph, types), _half_results(graph, types)
    for value, half in results.items():
        node = value.producer()
        if node is not None and node.op_type == "Cast":
            node.attributes["to"] = ir.AttrInt64("to", _DATA_TYPES[half])
        value.type = ir.TensorType(_DATA_TYPES[half])
        _widen_other_reads(graph.graph, value, half, reads)
    _convert(graph.graph, reads, results, tensor=_half_copy, constant=_half_constant)
    _drop_idle_casts(graph.graph)


def _drop_idle_casts(graph: ir.Graph) -> None:
    """Take out casts from a type to itself, as between an FP16 input and layers in FP16."""
    for node in (node for node in graph if node.op_type == "Cast"):
        source = node.inputs[0]
        if source is not None and source.dtype is not None and source.dtype == node.attributes["to"].as_int():
            del node.attributes["to"]
            node.op_type = "Identity"
    eliminate_identities(graph)


def round_to_half(
    graph: ir.Model, types: Mapping[str, Precision], rounded: Callable[[ir.Value, Precision], FloatArray]
) -> None:
    """Round every tensor of the nodes named in `types` to values of those types in place; all tensors stay FP32.

    Args:
        graph: The FP32 graph to change.
        types: Name of every node that computes in a half type to that type, out of `half_capable`.
        rounded: Gives the content of a constant as the type can represent it.
    """

    def constant(graph: ir.Graph, value: ir.Value, half: Precision) -> ir.Value:
        return add_constant(graph, f"{value.name}_rounded", rounded(value, half))

    reads, results = _half_reads(graph, types), _half_results(graph, types)
    _convert(graph.graph, reads, results, tensor=_rounded_copy, constant=constant)
    for value, half in results.items():
        node = value.producer()
        if node is not None and node.op_type not in VALUE_PRESERVING:
            _round_in_place(graph.graph, value, half)


def _opset(graph: ir.Model, half: Precision) -> int:
    """The opset whose schemas say what may be `half`."""
    return max(half.spec.opset, graph.opset_imports[""])


def _may_be_half(node: ir.Node, opset: int, ranges: Ranges, half: Precision) -> bool:
    values = [value for value in (*node.inputs, *node.outputs) if value is not None]
    floats = any(value.dtype is _FLOAT for value in values)
    return (
        floats
        and node.op_type not in VALUE_BLIND
        and not has_body(node)
        and not _hands_through(node)
        and _writes_half(node, opset, half)
        and not any(_magnitude(value, ranges) > LARGEST[half] for value in values)
    )


def _hands_through(node: ir.Node) -> bool:
    """Whether the node gives an input of the model as an output: nothing is computed, so nothing is to be rounded."""
    given = node.inputs[0] if node.op_type == "Identity" else None
    return given is not None and given.is_graph_input() and node.outputs[0].is_graph_output()


def _writes_half(node: ir.Node, opset: int, half: Precision) -> bool:
    """Whether all FP32 results become half once all inputs are that may be.

    Results of a type of their own (ConstantOfShape, EyeLike) do not; a Cast is told to by its attribute.
    """
    takes, gives = _half_parameters(node.op_type, opset, half)
    given = {_at(takes, i) for i, value in enumerate(node.inputs) if value is not None and value.dtype is _FLOAT}
    results = {_at(gives, i) for i, value in enumerate(node.outputs) if value.dtype is _FLOAT}
    return None not in results and (node.op_type == "Cast" or results <= given)


@cache
def _half_parameters(
    op_type: str, opset: int, half: Precision
) -> tuple[tuple[str | None, ...], tuple[str | None, ...]]:
    """Type parameter of every input and output of an operator that may be `half`; None for the others."""
    schema = onnx.defs.get_schema(op_type, opset)
    spelling = f"tensor({_DATA_TYPES[half].name.lower()})"
    halves = {c.type_param_str for c in schema.type_constraints if spelling in c.allowed_type_strs}

    def parameters(formals: list[onnx.defs.OpSchema.FormalParameter]) -> tuple[str | None, ...]:
        return tuple(formal.type_str if formal.type_str in halves else None for formal in formals)

    return parameters(list(schema.inputs)), parameters(list(schema.outputs))


def _at(parameters: tuple[str | None, ...], index: int) -> str | None:
    """The parameter at `index`; a variadic operator repeats its last one."""
    return parameters[min(index, len(parameters) - 1)]


def _magnitude(value: ir.Value, ranges: Ranges) -> float:
    if value.const_value is not None and value.dtype is _FLOAT:
        return float(np.abs(constant_array(value)).max(initial=0.0))
    observed = ranges.tensors.get(str(value.name))
    return 0.0 if observed is None else observed.magnitude


def _half_reads(graph: ir.Model, types: Mapping[str, Precision]) -> _Reads:
    opsets = {half: _opset(graph, half) for half in _DATA_TYPES}
    return {
        (node, index): half
        for node in graph.graph
        if (half := types.get(str(node.name))) is not None
        for index, value in enumerate(node.inputs)
        if value is not None and value.dtype is _FLOAT
        if _at(_half_parameters(node.op_type, opsets[half], half)[0], index) is not None
    }


def _half_results(graph: ir.Model, types: Mapping[str, Precision]) -> _Results:
    halves = ((node, types[str(node.name)]) for node in graph.graph if node.name in types)
    return {value: half for node, half in halves for value in node.outputs if value.dtype is _FLOAT}


def _convert(graph: ir.Graph, reads: _Reads, results: _Results, *, tensor: _Converter, constant: _Converter) -> None:
    """Give every half read whose value is not of its type already a converted copy, one per value and type."""
    copies: dict[tuple[ir.Value, Precision], ir.Value] = {}
    for (node, index), half in reads.items():
        value = node.inputs[index]
        assert value is not None
        if results.get(value) is not half:
            if (value, half) not in copies:
                copies[value, half] = (constant if value.const_value is not None else tensor)(graph, value, half)
            node.replace_input_with(index, copies[value, half])


def _widen_other_reads(graph: ir.Graph, value: ir.Value, half: Precision, reads: _Reads) -> None:
    """Give whoever cannot read the half `value`, the graph's outputs included, an FP32 copy under its name."""

    def keeps(node: ir.Node, index: int) -> bool:
        return (node, index) in reads or node.op_type in VALUE_BLIND

    if value.is_graph_output() or not all(keeps(node, index) for node, index in value.uses()):
        wide = _cast(graph, value, _FLOAT, "_fp32")
        cast = wide.producer()
        take_over(graph, value, wide, keeps=lambda node, index: node is cast or keeps(node, index), suffix=f"_{half}")


def _half_constant(graph: ir.Graph, value: ir.Value, half: Precision) -> ir.Value:
    return add_constant(graph, f"{value.name}_{half}", constant_in_half(constant_array(value), half))


def _half_copy(graph: ir.Graph, value: ir.Value, half: Precision) -> ir.Value:
    return _cast(graph, value, _DATA_TYPES[half], f"_{half}")


def _rounded_copy(graph: ir.Graph, value: ir.Value, half: Precision) -> ir.Value:
    return _cast(graph, _cast(graph, value, _DATA_TYPES[half], "_half"), _FLOAT, "_rounded")


def _round_in_place(graph: ir.Graph, value: ir.Value, half: Precision) -> None:
    narrow = _cast(graph, value, _DATA_TYPES[half], "_half")
    back = _cast(graph, narrow, _FLOAT, "_rounded")
    take_over(graph, value, back, keeps=lambda node, _: node is narrow.producer(), suffix="_exact")


def _cast(graph: ir.Graph, value: ir.Value, dtype: ir.DataType, suffix: str) -> ir.Value:
    name = f"{value.name}{suffix}"
    return insert_node(graph, "Cast", [value], name, after=value.producer(), dtype=dtype, attributes={"to": dtype})
