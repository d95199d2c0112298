"""Multiply-adds of a node: matrix products, convolutions, recurrences, and what control flow holds.

Pointwise operators, reductions and poolings count nothing, as is usual: they are bound by memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import onnx_ir as ir

from trt_mpq.graph.einsum import labels_of
from trt_mpq.groups.shapes import elements, shape_of


def multiply_adds(node: ir.Node) -> int:
    """Multiply-adds of one run of `node`, biases left out; 0 for operators that do none.

    Of an If the dearer branch counts, of a Loop whose trip count is computed one turn.

    Raises:
        ModelError: A shape is unknown; the message names the tensor.
    """
    count = _COUNTS.get(node.op_type)
    return 0 if count is None else count(node)


def uncounted(node: ir.Node) -> int:
    """How many products inside control flow `multiply_adds` leaves out, because their shapes are unknown."""
    bodies = (a.as_graph() for a in node.attributes.values() if a.type is ir.AttributeType.GRAPH)
    inside = [inner for body in bodies for inner in body]
    return sum((inner.op_type in _COUNTS and not _is_known(inner)) + uncounted(inner) for inner in inside)


def _input(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value


def _convolution(node: ir.Node) -> int:
    """Every output element is a sum over the filter of its channel."""
    return elements(node.outputs[0]) * math.prod(shape_of(_input(node, 1))[1:])


def _transposed_convolution(node: ir.Node) -> int:
    """Every input element meets the filters of its channel, whatever the stride."""
    return elements(_input(node, 0)) * math.prod(shape_of(_input(node, 1))[1:])


def _gemm(node: ir.Node) -> int:
    contracted = 0 if node.attributes.get_int("transA", 0) else 1
    return elements(node.outputs[0]) * shape_of(_input(node, 0))[contracted]


def _matmul(node: ir.Node) -> int:
    return elements(node.outputs[0]) * shape_of(_input(node, 0))[-1]


def _einsum(node: ir.Node) -> int:
    """One for every combination of indices, and for every operand behind the first."""
    sizes: dict[str, int] = {}
    *operands, _ = labels_of(node)
    for index, labels in enumerate(operands):
        for label, size in zip(labels, shape_of(_input(node, index)), strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    return (len(operands) - 1) * math.prod(sizes.values())


def _recurrence(node: ir.Node) -> int:
    """Every step of every sequence meets all weights, of input and state, of all gates and directions."""
    data, weights = _input(node, 0), elements(_input(node, 1)) + elements(_input(node, 2))
    return elements(data) // shape_of(data)[-1] * weights


def _attention(node: ir.Node) -> int:
    """Both products of ONNX's Attention; the keys are as many as the past holds and the input brings."""
    past = node.inputs[4] if len(node.inputs) > 4 else None
    keys = shape_of(_input(node, 1))[-2] + (0 if past is None else shape_of(past)[-2])
    return (elements(_input(node, 0)) + elements(node.outputs[0])) * keys


def _branches(node: ir.Node) -> int:
    return max(_body(node, name) for name in ("then_branch", "else_branch"))


def _loop(node: ir.Node) -> int:
    trips = node.inputs[0]
    known = trips is not None and trips.const_value is not None
    return _body(node, "body") * (int(trips.const_value.numpy().item()) if known else 1)  # type: ignore[union-attr]


def _scan(node: ir.Node) -> int:
    last, scanned = _input(node, len(_graph(node, "body").inputs) - 1), node.attributes.get_int("num_scan_inputs", 1)
    axes = node.attributes["scan_input_axes"].as_ints() if "scan_input_axes" in node.attributes else (0,) * scanned
    return _body(node, "body") * shape_of(last)[axes[-1]]


def _body(node: ir.Node, name: str) -> int:
    """Of what has known shapes: a body is not run to observe them, and it is outside groups however much it does."""
    return sum(multiply_adds(inner) for inner in _graph(node, name) if _is_known(inner))


def _is_known(node: ir.Node) -> bool:
    values = (value for value in (*node.inputs, *node.outputs) if value is not None)
    return all(value.shape is not None and value.shape.is_static() for value in values)


def _graph(node: ir.Node, name: str) -> ir.Graph:
    return node.attributes[name].as_graph()


_COUNTS: Mapping[str, Callable[[ir.Node], int]] = {
    "Conv": _convolution,
    "DeformConv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Einsum": _einsum,
    "LSTM": _recurrence,
    "GRU": _recurrence,
    "RNN": _recurrence,
    "Attention": _attention,
    "If": _branches,
    "Loop": _loop,
    "Scan": _scan,
}
