"""What is wrong in a message though neither protobuf nor `onnx.checker` minds, found before a library trips over it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import onnx
import onnx_ir as ir
from google.protobuf.descriptor import FieldDescriptor

from trt_mpq.errors import ModelError

_MOST_ELEMENTS = 1 << 48
"""No tensor has more; NumPy overflows at 2 to the 63 bytes."""
_LONGEST_FILE_NAME = 255
_NEWEST = (1 << 31) - 1
"""What ONNX keeps as the version of operators."""
_DEFAULT_DOMAIN = "ai.onnx"
_TYPES = frozenset(int(dtype) for dtype in ir.DataType if dtype is not ir.DataType.UNDEFINED)
_WITHOUT_BITS = (ir.DataType.UNDEFINED, ir.DataType.STRING)
_BITS = {int(dtype): dtype.bitwidth for dtype in ir.DataType if dtype not in _WITHOUT_BITS}
_SHOWN = 60
_FLAGS = frozenset({"transA", "transB"})
"""Attributes that say yes or no. Each library has its own mind about other numbers than 1 and 0."""


def check_message(model: onnx.ModelProto) -> None:
    """Refuse what no library that reads `model` expects.

    Raises:
        ModelError: There is text that is not UTF-8, a tensor whose data is not of its shape, a function that calls
            itself, fewer inputs or an attribute of another type or value than an operator has, a reference to one
            where no function is, a tensor that is read and nothing makes, or a version of operators that there cannot
            be; the message names what holds it.
    """
    for path, message in _messages(model, ""):
        _check_text(message, path)
        if isinstance(message, onnx.TensorProto):
            _check_tensor(message, path)
        elif isinstance(message, onnx.TypeProto.Tensor):
            _check_elements((dim.dim_value for dim in message.shape.dim if dim.dim_value > 0), path)
    for function in model.functions:
        _check_attributes(_nodes(function), _versions(function.opset_import or model.opset_import), in_function=True)
        _check_readers(function.node, function.output, frozenset(function.input))
    _check_attributes(_nodes(model.graph), _versions(model.opset_import), in_function=False)
    _check_graph(model.graph, frozenset())
    _check_functions(model)


def _messages(message: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The message and all in it, each with what it is part of; numbers in tensors are passed over."""
    yield path, message
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            repeated = not hasattr(value, "ListFields")
            for number, part in enumerate(value if repeated else (value,)):
                name = getattr(part, "name", "") or (number if repeated else "")
                yield from _messages(part, f"{path}{field.name} {_text(name)}, ".replace("  ", " "))


def _check_text(message: Any, path: str) -> None:
    for field, value in message.ListFields():
        if field.type != FieldDescriptor.TYPE_STRING:
            continue
        for text in (value,) if isinstance(value, (str, bytes)) else value:
            if isinstance(text, bytes):  # protobuf gives what it cannot decode as it is
                raise ModelError(
                    f"the model holds text that is not UTF-8 ({path}{field.name}): it is damaged, export it again"
                )


def _check_tensor(tensor: onnx.TensorProto, path: str) -> None:
    name = f"tensor {tensor.name}" if tensor.name else f"the tensor in {path.rstrip(', ')}"
    if any(dim < 0 for dim in tensor.dims):
        raise ModelError(f"{name} has the shape {list(tensor.dims)}: it is damaged, export the model again")
    if tensor.data_type not in _TYPES:
        raise ModelError(f"{name} has no type that ONNX knows: it is damaged, export the model again")
    elements = _check_elements(tensor.dims, path)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        _check_location(tensor, name)
    elif tensor.data_type in _BITS and tensor.HasField("raw_data"):
        needed, stored = math.ceil(elements * _BITS[tensor.data_type] / 8), len(tensor.raw_data)
        if stored != needed:
            raise ModelError(
                f"{name} of shape {list(tensor.dims)} needs {needed} bytes and has {stored}: it is damaged, export the "
                "model again"
            )


def _check_elements(dims: Iterable[int], path: str) -> int:
    elements = math.prod(dims)
    if elements > _MOST_ELEMENTS:
        raise ModelError(f"{path.rstrip(', ') or 'a tensor'} is said to have {elements:.3g} elements: it is damaged")
    return elements


def _check_location(tensor: onnx.TensorProto, name: str) -> None:
    for entry in tensor.external_data:
        parts = entry.value.split("/")
        if entry.key == "location" and ("\0" in entry.value or max(map(len, parts)) > _LONGEST_FILE_NAME):
            raise ModelError(f"{name} has its data in {_text(entry.value)!r}, which is no file name: export it again")


def _versions(imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    for one in imports:
        if not 0 <= one.version <= _NEWEST:
            raise ModelError(
                f"the model wants operators of version {one.version}, which there cannot be: export it again"
            )
    return {one.domain.removeprefix(_DEFAULT_DOMAIN): one.version for one in imports}


def _check_attributes(nodes: Iterable[onnx.NodeProto], versions: Mapping[str, int], *, in_function: bool) -> None:
    for node in nodes:
        schema = _schema(node, versions)
        _check_counts(node, schema)
        # An enumeration, of which the stubs know no value.
        declared = {name: one.type.value for name, one in schema.attributes.items()} if schema else {}  # type: ignore[attr-defined]
        for attribute in node.attribute:
            where = f"attribute {attribute.name} of node {_called(node)}"
            if not attribute.name or attribute.type == onnx.AttributeProto.UNDEFINED:
                raise ModelError(f"{where} has no name or no type: the model is damaged, export it again")
            if attribute.ref_attr_name and not in_function:
                raise ModelError(f"{where} refers to one of a function, and is in none: export the model again")
            wanted = declared.get(attribute.name, attribute.type)
            if attribute.type != wanted:
                kinds = [onnx.AttributeProto.AttributeType.Name(kind) for kind in (attribute.type, wanted)]
                raise ModelError(f"{where} is of type {kinds[0]} instead of {kinds[1]}: export the model again")
            if attribute.name in _FLAGS and attribute.name in declared and attribute.i not in (0, 1):
                raise ModelError(f"{where} is {attribute.i} and says yes or no, by 1 or 0: export the model again")


def _schema(node: onnx.NodeProto, versions: Mapping[str, int]) -> onnx.defs.OpSchema | None:
    """What ONNX says of the node's operator, if it knows it."""
    domain = node.domain.removeprefix(_DEFAULT_DOMAIN)
    try:
        return onnx.defs.get_schema(node.op_type, versions.get(domain, 1), domain)
    except onnx.defs.SchemaError:
        return None


def _check_counts(node: onnx.NodeProto, schema: onnx.defs.OpSchema | None) -> None:
    if schema is not None and len(node.input) < schema.min_input:
        raise ModelError(
            f"node {_called(node)} has {len(node.input)} inputs and needs {schema.min_input}: export the model again"
        )
    if schema is not None and len(node.output) < schema.min_output:
        raise ModelError(
            f"node {_called(node)} has {len(node.output)} outputs and needs {schema.min_output}: export it again"
        )


def _nodes(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _nodes(body)


def _check_graph(graph: onnx.GraphProto, outer: frozenset[str]) -> None:
    """Refuse what reads a tensor that nothing makes; `outer` are those that a body may read of the graph around it."""
    stored = (*graph.initializer, *graph.input, *(sparse.values for sparse in graph.sparse_initializer))
    _check_readers(graph.node, [value.name for value in graph.output], outer.union(value.name for value in stored))


def _check_readers(nodes: Iterable[onnx.NodeProto], outputs: Iterable[str], given: frozenset[str]) -> None:
    known = given.union(name for node in nodes for name in node.output if name)
    for node in nodes:
        for name in node.input:
            if name and name not in known:
                raise ModelError(
                    f"node {_called(node)} reads {_text(name)}, which nothing makes: export the model again"
                )
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                _check_graph(body, known)
    for name in outputs:
        if name not in known:
            raise ModelError(f"nothing makes the output {_text(name)!r}: export the model again")


def _check_functions(model: onnx.ModelProto) -> None:
    """Refuse functions that come to call themselves."""
    bodies = {(function.domain, function.name, function.overload): function for function in model.functions}
    calls = {
        key: {called for node in function.node if (called := (node.domain, node.op_type, node.overload)) in bodies}
        for key, function in bodies.items()
    }
    while calls:
        leaves = {key for key, called in calls.items() if not called}
        if not leaves:
            name = min(calls)[1]
            raise ModelError(f"function {name} of the model calls itself: such a model cannot be inlined")
        calls = {key: called - leaves for key, called in calls.items() if key not in leaves}


def _called(node: onnx.NodeProto) -> str:
    return f"{_text(node.name or ' '.join(node.output))} ({node.op_type})"


def _text(name: Any) -> str:
    text = str(name)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
