"""Concats around which tensors are quantized with different scales."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from math import inf

import numpy as np
import onnx_ir as ir

from trt_mpq.lint.graph import QdqGraph, Step


def unlike_concats(graph: QdqGraph) -> Iterator[tuple[ir.Node, float]]:
    """Concats with different scales for one type of codes, and how many times the largest is the smallest."""
    for node in graph.graph:
        if node.op_type != "Concat" or graph.products_of_unlike(node):
            continue
        by_codes: dict[ir.DataType | None, list[Step]] = defaultdict(list)
        for step in _around(graph, node):
            by_codes[step.codes].append(step)
        unlike = [steps for steps in by_codes.values() if any(not step.same_scale(steps[0]) for step in steps)]
        if unlike:
            yield node, max(map(_ratio, unlike))


def _quantizers_of(graph: QdqGraph, value: ir.Value) -> Iterator[Step]:
    """The quantizers that read `value`, directly or behind operators that move it: TensorRT carries them to it."""
    for node, index in graph.readers(value):
        step = graph.step(node.outputs[0])
        if index == 0 and step is not None and step.quantizes:
            yield step


def _around(graph: QdqGraph, concat: ir.Node) -> Iterator[Step]:
    """Quantizers of what a Concat reads and writes."""
    for value in concat.inputs:
        if value is not None:
            if (step := graph.dequantizer_before(value)) is not None:
                yield step
            yield from _quantizers_of(graph, value)
    yield from _quantizers_of(graph, concat.outputs[0])


def _ratio(steps: list[Step]) -> float:
    known = [np.abs(step.steps) for step in steps if step.steps is not None]
    least = min(float(scale.min()) for scale in known)
    return max(float(scale.max()) for scale in known) / least if least else inf
