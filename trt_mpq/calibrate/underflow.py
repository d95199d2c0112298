"""What a 16-bit type rounds to zero where zero cannot be: below a fraction bar, under a logarithm.

FP16 ends at 6e-8. A constant of 1e-10 that keeps ``log(power + 1e-10)`` finite is zero there, and so is the power of a
quiet sound. Most values that small are harmless, as behind a Relu or in the tail of a Softmax: zero is as good. They
matter where a *singular* operator reads them (Div, Reciprocal, Log, Pow with a negative exponent), which has no value
at zero. So calibration observes the least magnitude, zeros left out, of what these read: the *floor* of that tensor.
From there it is followed upwards, through operators that hand small values on: below a Sqrt the floor is squared, below
a square its root is taken, a sum and a Max keep it. Where the floor is lost, who writes the tensor and who reads it
need a wider type.

What a group writes is left alone behind a guard (``relu(conv) + 1e-10``): that sum, not the convolution, has to be
exact near zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

import numpy as np
import onnx_ir as ir

from trt_mpq.graph.edit import constant_array
from trt_mpq.graph.operators import VALUE_PRESERVING
from trt_mpq.numerics import VANISHING, round_to_half
from trt_mpq.types import Grouping, Precision, Ranges

_SINGULAR = {"Div": 1, "Reciprocal": 0, "Log": 0, "Pow": 0}
"""Operators that have no value at zero (Pow: if its exponent is negative), to the number of that operand."""
_VARIANCE, _DEFAULT_EPSILON = 4, 1e-5
"""Place of the variance among the inputs of BatchNormalization, and what ONNX adds to it where nothing is said."""
_MOST_LOST = 0.02
"""Part of a variance that rounding may take: BF16 takes 0.4 %, FP16 less, of all that they hold to their precision."""
_GUARDS = frozenset({"Add", "Sum", "Max", "Clip", "Where"})
"""Operators that keep what they read away from zero, or may."""
_KEEPING = (VALUE_PRESERVING - {"Expand"}) | {
    *("Add", "Sub", "Sum", "Where", "Cast", "Expand"),
    *("ReduceSum", "ReduceMean", "GlobalAveragePool", "AveragePool"),
}
"""Operators whose result is as small as the smallest of what they read, or nearly."""
_POWERS = {"Sqrt": 0.5, "ReduceSumSquare": 2.0}
"""Operators that raise to a power, sums of it included."""


@dataclass(frozen=True)
class _Floor:
    """The least magnitude that counts in `value`, which `reader` reads.

    `needs` is the singular node that it counts for; `guarded` says that something lies between that holds off zero.
    """

    value: ir.Value
    least: float
    reader: ir.Node
    needs: ir.Node
    guarded: bool = False

    @property
    def writer(self) -> ir.Node | None:
        """The node that writes the tensor; None for inputs of the network."""
        return self.value.producer()


def singular_operands(graph: ir.Graph) -> tuple[ir.Value, ...]:
    """The tensors that must not become zero, because an operator that reads them has no value there."""
    return tuple(dict.fromkeys(value for _, value in _singular_reads(graph)))


def lost_to_zero(graph: ir.Graph, grouping: Grouping, ranges: Ranges, half: Precision) -> dict[str, str]:
    """Nodes that cannot run in `half` because it makes a zero that they or a later node cannot take, with the reason.

    Args:
        graph: The prepared graph.
        grouping: Its groups.
        ranges: With the least magnitude of every one of `singular_operands`.
        half: A 16-bit precision.
    """
    grouped = {name for group in grouping.groups for name in group.nodes}
    reasons, said = dict(_vanished(graph, ranges, half)), dict[ir.Node, str]()
    for found in _floors(graph, ranges):
        for node, loss in _losses(found, half):
            if not (found.guarded and node.name in grouped):
                text = said.setdefault(found.needs, loss)  # what is lost next to the operator that needs it
                reasons.setdefault(str(node.name), text)
    return reasons


def _vanished(graph: ir.Graph, ranges: Ranges, half: Precision) -> Iterator[tuple[str, str]]:
    """Nodes that read or write a tensor of which nothing is left, or a factor or a variance that becomes zero."""
    for node in graph:
        if node.op_type == "BatchNormalization" and (least := _least_lost_variance(node, half)) is not None:
            yield str(node.name), f"a variance of {least:.4g}, {_rounded(half)}, or nearly, is a divisor in {node.name}"
        for value in (value for value in (*node.inputs, *node.outputs) if value is not None):
            magnitude = _magnitude(node, value, ranges)
            if 0 < magnitude <= VANISHING[half]:
                yield str(node.name), f"tensor {value.name} reaches {magnitude:.4g} only, {_rounded(half)}"


def _least_lost_variance(node: ir.Node, half: Precision) -> float | None:
    """The least variance of a normalization with constants that `half` does not hold, where epsilon is no larger."""
    variance = node.inputs[_VARIANCE]
    if variance is None or variance.const_value is None:
        return None
    exact = constant_array(variance)
    guarded = exact + node.attributes.get_float("epsilon", _DEFAULT_EPSILON)
    lost = np.abs(round_to_half(exact, half) - exact) > _MOST_LOST * guarded
    return float(exact[lost].min()) if lost.any() else None


def _magnitude(node: ir.Node, value: ir.Value, ranges: Ranges) -> float:
    """Largest magnitude of a tensor, or of a constant that `node` multiplies with or divides by; 0 for others."""
    if value.const_value is not None:
        factor = node.op_type in ("Mul", "Div") and value.dtype is ir.DataType.FLOAT
        return float(np.abs(constant_array(value)).max(initial=0.0)) if factor else 0.0
    observed = ranges.tensors.get(str(value.name))
    return 0.0 if observed is None else observed.magnitude


def _losses(found: _Floor, half: Precision) -> Iterator[tuple[ir.Node, str]]:
    """The nodes that lose a floor, the reader and the writer of its tensor or the writer alone, and what is lost."""
    needs, writer = f"{_rounded(half)}, and {found.needs.name} ({found.needs.op_type}) has no value there", found.writer
    if found.least <= VANISHING[half]:
        text = f"tensor {found.value.name} comes down to {found.least:.4g}, {needs}"
        yield from ((node, text) for node in (found.reader, writer) if node is not None)
    elif writer is not None and writer.op_type == "ReduceL2" and found.least**2 <= VANISHING[half]:
        yield writer, f"the squares that {writer.name} adds up come down to {found.least**2:.4g}, {needs}"


def _rounded(half: Precision) -> str:
    return f"which {half.name} rounds to 0"


def _floors(graph: ir.Graph, ranges: Ranges) -> Iterator[_Floor]:
    """The floor of every tensor from which small values get to a singular operator."""
    seen: dict[ir.Value, float] = {}
    waiting = [
        _Floor(value, observed.smallest, node, node)
        for node, value in _singular_reads(graph)
        if (observed := ranges.tensors.get(str(value.name))) and observed.smallest is not None
    ]
    while waiting:
        found = waiting.pop()
        if found.least < seen.get(found.value, inf):
            seen[found.value] = found.least
            yield found
            waiting.extend(_above(found))


def _singular_reads(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.Value]]:
    for node in graph:
        if node.op_type in _SINGULAR:
            value = node.inputs[_SINGULAR[node.op_type]]
            if value is not None and _varies(value) and (node.op_type != "Pow" or _exponent(node) < 0):
                yield node, value


def _above(found: _Floor) -> Iterator[_Floor]:
    """What the writer of a tensor reads, with the floors that it has there."""
    node = found.writer
    if node is None:
        return
    guarded = found.guarded or node.op_type in _GUARDS
    least = _least_read(node, found.least)
    for value in node.inputs:
        if least is not None and value is not None and _varies(value):
            yield _Floor(value, least, node, found.needs, guarded)


def _least_read(node: ir.Node, least: float) -> float | None:
    """The floor of what `node` reads, given that of what it writes; None where that says nothing."""
    if node.op_type in _KEEPING or node.op_type == "ReduceL2":
        return least
    if node.op_type in ("Mul", "Div") and (factor := _factor(node)):
        return least / factor if node.op_type == "Mul" else least * factor
    power = _POWERS.get(node.op_type) or (_exponent(node) if node.op_type in ("Mul", "Pow") else 0.0)
    return least ** (1 / power) if power > 0 else None


def _factor(node: ir.Node) -> float:
    """The largest magnitude of the constant that `node` multiplies with or divides by; 0 if there is none."""
    constant = node.inputs[1] if node.op_type == "Div" else next((v for v in node.inputs if v and not _varies(v)), None)
    if constant is None or constant.const_value is None:
        return 0.0
    return float(np.abs(constant_array(constant)).max(initial=0.0))


def _exponent(node: ir.Node) -> float:
    """The power to which a Pow, or a Mul of a tensor with itself, raises; 0 if that is not one number."""
    if node.op_type == "Mul":
        return 2.0 if node.inputs[0] is node.inputs[1] else 0.0
    exponent = node.inputs[1]
    single = exponent is not None and exponent.const_value is not None and exponent.const_value.size == 1
    return constant_array(exponent).item() if single and exponent is not None else 0.0


def _varies(value: ir.Value) -> bool:
    return value.const_value is None and value.dtype is ir.DataType.FLOAT
