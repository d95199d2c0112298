"""Operators with graphs of their own (If, Loop, Scan): what these read.

A body reads tensors of the graph around it by name, beside what its operator is given. TensorRT runs bodies as they
are, so nothing here rewrites one.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir


def bodies(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs that are attributes of `node`."""
    for attribute in node.attributes.values():
        if attribute.type is ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type is ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def has_body(node: ir.Node) -> bool:
    """Whether `node` runs graphs of its own."""
    return next(bodies(node), None) is not None


def reads(node: ir.Node) -> tuple[ir.Value, ...]:
    """Everything that `node` reads of its graph, each tensor once: its inputs, then what its bodies read."""
    inside = (value for body in bodies(node) for inner in body.all_nodes() for value in inner.inputs)
    captured = (value for value in inside if value is not None and value.graph is node.graph)
    return tuple(dict.fromkeys((*(value for value in node.inputs if value is not None), *captured)))


def close_bodies(graph: ir.Graph) -> None:
    """Make what bodies read further inputs of their operators, in place; bodies read stand-ins of their own instead.

    The graph cannot be run any more, but everyone who follows its tensors to their readers meets its own nodes only.
    """
    for node in graph:
        inside: dict[ir.Value, ir.Value] = {}
        for inner in [inner for body in bodies(node) for inner in body.all_nodes()]:
            for index, value in enumerate(inner.inputs):
                if value is not None and value.graph is graph:
                    inside.setdefault(value, _stand_in(value))
                    inner.replace_input_with(index, inside[value])
        for value in inside:
            node.resize_inputs(len(node.inputs) + 1)
            node.replace_input_with(len(node.inputs) - 1, value)


def _stand_in(value: ir.Value) -> ir.Value:
    return ir.Value(name=value.name, shape=value.shape, type=value.type, const_value=value.const_value)
