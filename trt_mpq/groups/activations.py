"""Activations that exporters spell out: GELU and Swish as a handful of pointwise nodes."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from trt_mpq.groups.shapes import elements, is_constant, shape_of

_GATES = frozenset({"Erf", "Tanh", "Sigmoid", "HardSigmoid"})
_ARITHMETIC = frozenset({"Add", "Mul", "Div", "Pow"})


def gated_activation(value: ir.Value) -> list[ir.Node]:
    """The nodes that compute ``value * gate(value)`` and read nothing else but scalars, in order; empty if none do.

    One gate between arithmetic with scalars is erf-GELU, tanh-GELU, QuickGELU, Swish or HardSwish, in whatever
    order an exporter multiplies. Its exact form decides nothing here. Behind the gate or beside it, a scalar may
    also be one value per channel: that is what smoothing makes of GELU's 0.5.
    """
    found: list[ir.Node] = []
    gates = 0
    while gates <= 1 and (node := _next_inside(value, found)) is not None:
        found.append(node)
        gates += node.op_type in _GATES
        if gates == 1 and _is_closed(value, found):
            return [] if _weighs_the_gate(found) else [*found, *_scaling(node.outputs[0])]
    return []


def _next_inside(value: ir.Value, found: Sequence[ir.Node]) -> ir.Node | None:
    """A pointwise node that reads `value`, what `found` writes, and scalars, and nothing else: it comes after them."""
    inside = [value, *(node.outputs[0] for node in found)]
    readers = (use.node for tensor in inside for use in tensor.uses())
    pointwise = (node for node in readers if node not in found and node.op_type in _GATES | _ARITHMETIC)
    return next((node for node in pointwise if all(v in inside or _is_admitted(v, node) for v in node.inputs)), None)


def _is_admitted(constant: ir.Value | None, reader: ir.Node) -> bool:
    return _is_scalar(constant) or (reader.op_type == "Mul" and _is_per_channel(constant, reader.outputs[0]))


def _weighs_the_gate(ordered: Sequence[ir.Node]) -> bool:
    """Whether what a gate reads was multiplied by one value per channel: that is no activation of one form."""
    weighed: set[ir.Value] = set()
    for node in ordered:
        if node.op_type in _GATES and not weighed.isdisjoint(v for v in node.inputs if v is not None):
            return True
        if any(v in weighed or _is_per_channel(v, node.outputs[0]) for v in node.inputs if v is not None):
            weighed.update(node.outputs)
    return False


def _is_closed(value: ir.Value, found: Sequence[ir.Node]) -> bool:
    """Whether nobody else reads anything but the last result."""
    inner = [value, *(node.outputs[0] for node in found[:-1])]
    return all(not tensor.is_graph_output() and all(use.node in found for use in tensor.uses()) for tensor in inner)


def _scaling(value: ir.Value) -> list[ir.Node]:
    """The multiplication by a constant behind a product, such as the 0.5 of GELU."""
    uses = () if value.is_graph_output() else value.uses()
    nodes = [use.node for use in uses]
    multiplies = len(nodes) == 1 and nodes[0].op_type == "Mul"
    return nodes if multiplies and any(_is_admitted(v, nodes[0]) for v in nodes[0].inputs) else []


def _is_scalar(value: ir.Value | None) -> bool:
    return value is not None and is_constant(value) and elements(value) == 1


def _is_per_channel(constant: ir.Value | None, result: ir.Value) -> bool:
    """Whether a constant holds one value for every index of the last axis of `result`."""
    if constant is None or not is_constant(constant):
        return False
    *others, last = (1, *shape_of(constant))
    return last == shape_of(result)[-1] > 1 and all(size == 1 for size in others)
