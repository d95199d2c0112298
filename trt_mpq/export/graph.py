"""What torch's exporter wrote, made readable: names of layers instead of numbers, names of free dimensions."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

import onnx.defs
import onnx_ir as ir
from onnx_ir.passes import common as passes

from trt_mpq.export.values import DynamicAxis
from trt_mpq.runtime.torch_export import NATIVE_OPSET, WRAPPED

_SCOPES = "pkg.torch.onnx.name_scopes"
_SYMBOL = re.compile(r"[^\W\d]\w*")


def tidy(graph: ir.Model, axes: Sequence[DynamicAxis]) -> tuple[DynamicAxis, ...]:
    """Name nodes after the layers of the module and dimensions after `axes`, in place.

    Returns:
        The axes that are free in the graph: those not required may have become fixed.
    """
    passes.InlinePass()(graph)
    free = _name_dimensions(graph.graph, axes)
    _name_initializers(graph.graph)
    for node in graph.graph:
        scope = _scope(node)
        if scope:
            node.name = f"{scope}.{node.op_type}"
        _drop_defaults(node)
    passes.ClearMetadataAndDocStringPass()(graph)
    passes.NameFixPass()(graph)
    return free


def _name_dimensions(graph: ir.Graph, axes: Sequence[DynamicAxis]) -> tuple[DynamicAxis, ...]:
    """Replace torch's symbols, in expressions too; an axis that torch fixed has a number."""
    inputs = {value.name: value for value in graph.inputs}
    names: dict[str, str] = {}
    free = []
    for axis in axes:
        shape = inputs[axis.input].shape
        assert shape is not None
        dim = shape[axis.axis]
        symbol = None if isinstance(dim, int) else dim.value
        if symbol and not symbol.isdigit():
            names.setdefault(symbol, axis.symbol)
            free.append(axis)
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    for value in values:
        if value.shape is not None:
            value.shape = ir.Shape([_named(dim, names) for dim in value.shape])
    return tuple(free)


def _named(dim: int | ir.SymbolicDim, names: dict[str, str]) -> int | str | None:
    if isinstance(dim, int) or dim.value is None:
        return dim if isinstance(dim, int) else None
    text = _SYMBOL.sub(lambda match: names.get(match[0], match[0]), dim.value)
    return int(text) if text.isdigit() else text


def _name_initializers(graph: ir.Graph) -> None:
    """Give parameters the names they have in torch, and the transposed ones of a layer that of its weight."""
    for value in list(graph.initializers.values()):
        name = str(value.name)
        wanted = name.removeprefix(WRAPPED) if name.startswith(WRAPPED) else _weight_name(value)
        if wanted and wanted not in graph.initializers:  # the exporter stores equal parameters once
            value.name = wanted


def _weight_name(value: ir.Value) -> str | None:
    """Name for a matrix that the exporter made, after the layer that multiplies by it first."""
    for reader, _ in value.uses():
        scope = _scope(reader)
        return f"{scope}.weight" if scope and reader.op_type == "MatMul" and len(value.shape or ()) == 2 else None
    return None


def _drop_defaults(node: ir.Node) -> None:
    """Remove attributes that say what goes without saying.

    ONNX's converter leaves them on operators that had no such attribute in the older opset, which is then invalid.
    """
    known = onnx.defs.get_schema(node.op_type, NATIVE_OPSET, node.domain).attributes
    for name, attribute in list(node.attributes.items()):
        default = known[name].default_value
        if default.type and ir.serde.deserialize_attribute(default).value == attribute.value:
            del node.attributes[name]


def _scope(node: ir.Node) -> str:
    """Path of the layer that the node came from, empty for the module itself."""
    scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
    layers = [scope for scope in scopes[:-1] if scope.startswith(WRAPPED)]
    return str(layers[-1]).removeprefix(WRAPPED) if layers else ""
