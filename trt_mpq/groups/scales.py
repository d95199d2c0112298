"""Tensors that have one scale, because an operator between them only moves values.

TensorRT carries Q and DQ across such operators. With one scale on both sides, the DQ and Q around them
cancel; with two, each Concat or MaxPool costs a requantization. What a Concat joins may be worth that
(`calibrate.own_scales`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx_ir as ir

from trt_mpq.graph.operators import MOVING
from trt_mpq.groups.attention import Attention
from trt_mpq.groups.products import Product
from trt_mpq.groups.shapes import is_constant, is_float
from trt_mpq.types import Tie
from trt_mpq.types.ties import tied_sets

OWN_SCALE_RATIO = 4.0
"""From here on an operand of a Concat has a scale of its own unless plans show that it needs none, so much smaller are
its values than those it joins: one scale for all would cost whoever reads it two of eight bits, 12 dB, and with six
bits layers begin to fall out of plans."""
LEAST_SCALE_RATIO = 2.0
"""From here on plans are asked: below, one scale for all costs less than a bit."""


def scale_ties(
    graph: ir.Graph, quantized: Iterable[str], products: Iterable[Attention | Product] = ()
) -> tuple[Tie, ...]:
    """What ties tensors to each other, at least one of each set so made in `quantized`; in network order.

    What takes the result of one product apart into operands of others (the Q, K and V of an attention) ties nothing:
    their magnitudes differ, and `products` quantize each of them behind it.
    """
    wanted = set(quantized)
    operands = [reader.inputs[index] for found in products for reader, index, _ in found.reads]
    apart = {node for operand in operands for node in _takes_apart(operand)}
    ties = [_tie(node) for node in graph if node not in apart and _tied(node)]
    useful = {name for names in tied_sets(ties) if not wanted.isdisjoint(names) for name in names}
    return tuple(tie for tie in ties if not useful.isdisjoint(tie.tensors))


def _tie(node: ir.Node) -> Tie:
    names = tuple(str(value.name) for value in _tied(node))
    operands = [value for value in node.inputs if value is not None and not is_constant(value) and is_float(value)]
    joined = operands if node.op_type == "Concat" else []
    return Tie(str(node.name), names, tuple(dict.fromkeys(str(value.name) for value in joined)))


def _takes_apart(operand: ir.Value | None) -> Iterator[ir.Node]:
    """Nodes that cut `operand` out of a larger tensor, across nodes that move values."""
    node = None if operand is None else operand.producer()
    while node is not None and _tied(node) and node.op_type != "Concat":
        if node.op_type in ("Split", "Slice", "Gather"):
            yield node
        source = node.inputs[0]
        node = None if source is None else source.producer()


def _tied(node: ir.Node) -> list[ir.Value]:
    """Inputs and outputs of `node` that hold the same values, or none."""
    if node.op_type == "Concat":
        candidates = [*node.inputs, *node.outputs]
    elif node.op_type in MOVING or _gathers_by_constant(node) or _pads_with_zero(node):
        candidates = [node.inputs[0], *node.outputs]
    else:
        return []
    return [value for value in candidates if value is not None and is_float(value)]


def _gathers_by_constant(node: ir.Node) -> bool:
    return node.op_type == "Gather" and is_constant(node.inputs[1])


def _pads_with_zero(node: ir.Node) -> bool:
    """Whether a Pad adds only zeros, which every symmetric format holds, or copies of its input."""
    if node.op_type != "Pad":
        return False
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if node.attributes.get_string("mode", "constant") != "constant" or value is None:
        return True
    return value.const_value is not None and not np.any(value.const_value.numpy())
