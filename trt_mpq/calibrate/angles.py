"""Angles that a 16-bit type cannot tell apart: positions of tokens times frequencies, under a sine or a cosine.

A rounding error of an angle is that of its sine, however large the angle is. FP16 rounds one of 1,000 radians by a
quarter of a radian and BF16 by two, which turns rotary embeddings and sinusoidal positions into noise; torch computes
them in FP32 whatever type the rest of the network has. So whatever makes an angle of more than one turn out of
positions, constants and inputs needs a wider type, and so do the sine and the cosine that read it. An angle that a
layer with a weight computes (SIREN, Snake) is left alone: that layer has rounded it by as much already. A column of
frequencies times a row of positions, as rotary embeddings have it, is no such layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import pi

import onnx_ir as ir

from trt_mpq.graph.operators import VALUE_PRESERVING
from trt_mpq.numerics import ROUNDING
from trt_mpq.types import Grouping, Precision, Ranges, Weight

_PERIODIC = frozenset({"Sin", "Cos"})
_TURN = 2 * pi
"""Up to here a sine is off by no more than the last three bits of the type."""
_MAKES_ANGLES = VALUE_PRESERVING | {"Add", "Sub", "Mul", "Div", "MatMul", "Einsum", "Cast", "Range", "Where"}
"""Operators that positions and frequencies pass on their way to a sine."""


def blurred_angles(graph: ir.Graph, grouping: Grouping, ranges: Ranges, half: Precision) -> dict[str, str]:
    """Nodes that cannot run in `half` because it blurs an angle that they make or read, with the reason.

    Args:
        graph: The prepared graph.
        grouping: Its groups.
        ranges: With the magnitude of every tensor.
        half: A 16-bit precision.
    """
    layers = (group for group in grouping.groups if any(not _is_column(weight) for weight in group.weights))
    weighted = {name for group in layers for name in group.nodes}
    reasons: dict[str, str] = {}
    for node in graph:
        angle = node.inputs[0] if node.op_type in _PERIODIC else None
        observed = None if angle is None else ranges.tensors.get(str(angle.name))
        if angle is None or observed is None or observed.magnitude <= _TURN:
            continue
        makers = list(_makers(angle))
        if all(maker.op_type in _MAKES_ANGLES and maker.name not in weighted for maker in makers):
            blur = observed.magnitude * ROUNDING[half]
            text = f"angle {angle.name} reaches {observed.magnitude:.4g}, which {half.name} rounds by up to {blur:.1g}"
            reasons.update((str(each.name), text) for each in (node, *makers))
    return reasons


def _is_column(weight: Weight) -> bool:
    return weight.index == 0 and weight.shape[-1] == 1


def _makers(angle: ir.Value) -> Iterator[ir.Node]:
    """The nodes on floating-point data that `angle` comes from, up to integers, constants and inputs."""
    seen: set[ir.Node] = set()
    waiting = [angle]
    while waiting:
        value = waiting.pop()
        node = value.producer()
        if node is not None and node not in seen and value.dtype is ir.DataType.FLOAT:
            seen.add(node)
            yield node
            waiting.extend(each for each in node.inputs if each is not None)
