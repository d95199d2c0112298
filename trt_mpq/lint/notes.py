"""What builds and fuses, and is worth a look when accuracy or speed disappoint."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

import onnx_ir as ir

from trt_mpq.graph.operators import COMMUTING
from trt_mpq.lint.findings import Check, Hit
from trt_mpq.lint.graph import QdqGraph, Step, name_of

_HALF_NORMAL = 2.0**-14


def _subnormal_scales(graph: QdqGraph) -> Iterator[Hit]:
    """FP16 scales below 2^-14 have few bits left."""
    for step in graph.parameters:
        if step.scale is not None and step.scale.dtype is ir.DataType.FLOAT16 and step.steps is not None:
            small = step.steps[(step.steps > 0) & (step.steps < _HALF_NORMAL)]
            if small.size:
                yield Hit.on(
                    step,
                    f"the FP16 scale {small.min():.3g} is subnormal, which rounds coarsely: harmless where a "
                    "channel is next to zero anyway, else keep the layer in high precision",
                )


def _duplicates(graph: QdqGraph) -> Iterator[Hit]:
    """The same quantizer twice on one tensor."""
    for tensor, first, others in graph.repeated():
        equal = [step for step in others if step.same_scale(first)]
        if equal:
            names = tuple(name_of(step.node) for step in (first, *equal))
            yield Hit(
                names, (tensor,), "the tensor is quantized several times alike: let all readers share one quantizer"
            )


def _movable(graph: QdqGraph) -> Iterator[Hit]:
    """Equal quantizers before and behind operators that only move values: one before them would do."""
    by_root: dict[tuple[ir.Value, ir.DataType | None], list[Step]] = defaultdict(list)
    for step in graph.quantizers:
        by_root[graph.root(step.source), step.codes].append(step)
    for (root, _), steps in by_root.items():
        if len({step.source for step in steps}) > 1 and all(step.same_scale(steps[0]) for step in steps):
            yield Hit(
                tuple(name_of(step.node) for step in steps),
                (str(root.name),),
                f"these quantizers hold values of {root.name} alike, with only {_between(steps)} "
                f"between: one quantizer on {root.name} would do",
            )


def _between(steps: list[Step]) -> str:
    crossed: dict[str, None] = {}
    for step in steps:
        node = step.source.producer()
        while node is not None and node.op_type in COMMUTING and node.inputs[0] is not None:
            crossed[node.op_type] = None
            node = node.inputs[0].producer()
    return ", ".join(crossed)


NOTES: Mapping[str, Check] = {
    "scale-subnormal": _subnormal_scales,
    "duplicate-quantizer": _duplicates,
    "movable": _movable,
}
"""Rules whose breach is a note: id to what finds breaches."""
