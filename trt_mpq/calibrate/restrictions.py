"""What observed values forbid: precisions that cannot hold what a group or a loose op reads, computes or writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import inf

import numpy as np
import onnx_ir as ir

from trt_mpq.calibrate.angles import blurred_angles
from trt_mpq.calibrate.underflow import lost_to_zero
from trt_mpq.graph.edit import constant_array
from trt_mpq.numerics import LARGEST
from trt_mpq.types import Grouping, LayerGroup, LooseOp, Precision, Ranges

_QUANTIZED = tuple(precision for precision in Precision if precision.quantized)

_Lost = Mapping[Precision, Mapping[str, str]]
"""16-bit precision to the nodes whose values it loses though they count, and the reason."""


def restrict_to_ranges(grouping: Grouping, ranges: Ranges, graph: ir.Graph) -> Grouping:
    """The grouping with what calibration forbids.

    A group that reads or writes a value, weight and bias included, beyond the range of the grouping's high precision
    runs as a whole in the refuge, and so does one that writes a value which becomes zero there and cannot be
    (`underflow.lost_to_zero`) or an angle that is blurred there (`angles.blurred_angles`); one whose input is zero in
    all data has no scale for it and stays in high precision. The same holds for loose ops, their constants included.
    """
    nodes = {str(node.name): node for node in graph}
    halves = [precision for precision in (grouping.top, grouping.refuge) if precision in LARGEST]
    lost = {
        half: {**blurred_angles(graph, grouping, ranges, half), **lost_to_zero(graph, grouping, ranges, half)}
        for half in halves
    }
    return replace(
        grouping,
        groups=tuple(_restricted(group, [nodes[n] for n in group.nodes], ranges, lost) for group in grouping.groups),
        loose=tuple(_restricted_op(op, nodes[op.node], ranges, lost) for op in grouping.loose),
    )


def _restricted(group: LayerGroup, nodes: Sequence[ir.Node], ranges: Ranges, lost: _Lost) -> LayerGroup:
    reasons: dict[Precision, str] = {}
    for site in group.inputs:
        if site.tensor in ranges.tensors and ranges.tensors[site.tensor].magnitude == 0:
            text = f"tensor {site.tensor} is zero in all calibration data, so it has no scale"
            reasons = dict.fromkeys(Precision.reading(), text)
    constants = [name for weight in group.weights for name in (weight.name, weight.bias)]
    for precision, text in _reasons(nodes, ranges, lost, constants):
        reasons.update(dict.fromkeys((precision, *_QUANTIZED), text))
    return replace(group, excluded={**group.excluded, **reasons})


def _restricted_op(op: LooseOp, node: ir.Node, ranges: Ranges, lost: _Lost) -> LooseOp:
    constants = [value.name for value in node.inputs if value is not None and value.dtype is ir.DataType.FLOAT]
    return replace(op, excluded=dict(_reasons([node], ranges, lost, constants)))


def _reasons(
    nodes: Sequence[ir.Node], ranges: Ranges, lost: _Lost, constants: Sequence[str | None]
) -> Iterator[tuple[Precision, str]]:
    """Why `nodes` cannot run in a 16-bit precision; the last reason for one counts."""
    for half, losses in lost.items():
        yield from ((half, losses[str(node.name)]) for node in nodes if node.name in losses)
        for value in (value for node in nodes for value in (*node.inputs, *node.outputs) if value is not None):
            magnitude = _magnitude(value, ranges, constants)
            if magnitude > LARGEST.get(half, inf):
                range_ = f"{half.name} range of {LARGEST[half]:.5g}"
                yield half, f"tensor {value.name} reaches {magnitude:.4g}, beyond the {range_}"


def _magnitude(value: ir.Value, ranges: Ranges, constants: Sequence[str | None]) -> float:
    """Largest magnitude of a tensor, or of one of the `constants`; 0 for others, such as the bounds of a Clip."""
    if value.const_value is not None:
        return float(np.abs(constant_array(value)).max(initial=0.0)) if value.name in constants else 0.0
    observed = ranges.tensors.get(str(value.name))
    return 0.0 if observed is None else observed.magnitude


def restrict_to_given(grouping: Grouping, given: Mapping[str, float]) -> Grouping:
    """The grouping in which groups stay in high precision that read a tensor without a `given` magnitude."""

    def restricted(group: LayerGroup) -> LayerGroup:
        unknown = next((site.tensor for site in group.inputs if site.tensor not in given), None)
        if unknown is None:
            return group
        reasons = dict.fromkeys(Precision.reading(), f"the file does not quantize tensor {unknown}")
        return replace(group, excluded={**group.excluded, **reasons})

    return replace(grouping, groups=tuple(map(restricted, grouping.groups)))
