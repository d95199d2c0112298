"""The few graph edits that emission and refinement are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from trt_mpq.numerics import FloatArray


def constant_array(value: ir.Value) -> FloatArray:
    """The content of a constant as float32, in its own shape.

    Raises:
        ValueError: `value` is not a constant.
    """
    if value.const_value is None:
        raise ValueError(f"tensor {value.name} is not a constant")
    return np.asarray(value.const_value.numpy(), dtype=np.float32)


def sole_reader(value: ir.Value, op_type: str) -> ir.Node | None:
    """The node of that kind that alone reads `value`; None if somebody else does, outside the graph too."""
    uses = () if value.is_graph_output() else tuple(value.uses())
    return uses[0].node if len(uses) == 1 and uses[0].node.op_type == op_type else None


def add_constant(graph: ir.Graph, name: str, content: NDArray[Any] | np.generic) -> ir.Value:
    """Register an initializer called `name`, or find the one of that name, if it holds the same.

    If another initializer has the name, a number is put behind it.
    """
    array = np.asarray(content)
    free, number = name, 0
    while free in graph.initializers:
        if _holds(graph.initializers[free], array):
            return graph.initializers[free]
        number += 1
        free = f"{name}_{number}"
    tensor = ir.tensor(array, name=free)
    value = ir.Value(name=free, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def _holds(value: ir.Value, content: NDArray[Any]) -> bool:
    """Whether the constant has exactly this type, shape and content."""
    if value.const_value is None:
        return False
    held = value.const_value.numpy()
    return held is content or (
        held.dtype == content.dtype and held.shape == content.shape and held.tobytes() == content.tobytes()
    )


def insert_node(
    graph: ir.Graph,
    op_type: str,
    inputs: list[ir.Value],
    output: str,
    *,
    after: ir.Node | None,
    dtype: ir.DataType | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> ir.Value:
    """Insert a one-output node named like its `output`.

    Args:
        graph: The graph to change.
        op_type: Operator of the default ONNX domain.
        inputs: Values read; the first gives shape and, unless `dtype` is given, type of the result.
        output: Name of the new tensor and of the new node.
        after: The node to stand behind; None puts it at the front of the graph.
        dtype: Element type of the result.
        attributes: ONNX attributes.

    Returns:
        The new node's output.
    """
    node = ir.node(op_type, inputs, dict(attributes or {}), name=output)
    value = node.outputs[0]
    value.name, value.shape = output, inputs[0].shape
    value.type = ir.TensorType(dtype) if dtype is not None else inputs[0].type
    put_behind(graph, node, after)
    return value


def put_behind(graph: ir.Graph, node: ir.Node, after: ir.Node | None) -> None:
    """Insert `node` behind `after`; None puts it at the front of the graph."""
    if after is not None:
        graph.insert_after(after, node)
    elif len(graph):
        graph.insert_before(graph[0], node)
    else:
        graph.append(node)


def reduced(graph: ir.Graph, op_type: str, value: ir.Value, axes: Sequence[int], name: str) -> ir.Value:
    """Insert a reduction of `value` (ReduceMean, ReduceMax…) over `axes`, kept as dimensions of 1.

    It stands right behind what writes `value` and is spelled for the opset of the graph.
    """
    listed, after = list(axes), value.producer()
    if graph.opset_imports[""] >= 18:
        counted = add_constant(graph, f"{name}/axes", np.array(listed, np.int64))
        return insert_node(graph, op_type, [value, counted], name, after=after)
    return insert_node(graph, op_type, [value], name, after=after, attributes={"axes": listed})


def take_over(
    graph: ir.Graph, old: ir.Value, new: ir.Value, *, keeps: Callable[[ir.Node, int], bool], suffix: str
) -> None:
    """Let `new` stand for `old`: under its name, as graph output, and in every read that `old` does not keep.

    `keeps(node, index)` says which reads stay with `old`, which gets `suffix` behind its name.
    """
    for user, index in list(old.uses()):
        if not keeps(user, index):
            user.replace_input_with(index, new)
    for i, output in enumerate(graph.outputs):
        if output is old:
            graph.outputs[i] = new
    old.name, new.name = f"{old.name}{suffix}", old.name


def eliminate_identities(graph: ir.Graph) -> None:
    """Let readers of a copy read what it is a copy of, in place and in nested graphs too.

    An Identity stays only where nothing else can give an output of the graph its name: behind an input, a constant,
    another output or a tensor of an outer graph. (The pass of onnx_ir loses one of two outputs that copy one tensor.)
    """
    for node in ir.traversal.RecursiveGraphIterator(graph):
        if node.op_type == "Identity" and node.domain == "" and not _names_an_output(node):
            _eliminate(node)


def _eliminate(identity: ir.Node) -> None:
    source, copy, graph = identity.inputs[0], identity.outputs[0], identity.graph
    assert source is not None
    assert graph is not None
    name = copy.name if copy.is_graph_output() else source.name
    copy.replace_all_uses_with(source, replace_graph_outputs=True)
    graph.remove(identity, safe=True)
    source.name = name


def _names_an_output(identity: ir.Node) -> bool:
    source = identity.inputs[0]
    assert source is not None
    writer = source.producer()
    named_otherwise = writer is None or writer.graph is not identity.graph or source.is_graph_output()
    return named_otherwise and identity.outputs[0].is_graph_output()


def node_by_name(graph: ir.Graph, name: str) -> ir.Node:
    """The node called `name`; KeyError if there is none."""
    for node in graph:
        if node.name == name:
            return node
    raise KeyError(name)
