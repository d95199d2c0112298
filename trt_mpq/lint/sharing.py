"""Tensors that are quantized more than once, and casts among quantizers.

Sources: as in `placement`; Model Optimizer gives all that a Concat joins one scale for the same reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import onnx_ir as ir

from trt_mpq.lint.graph import COMMUTING, DEQUANTIZE, QdqGraph, Step, name_of, names_of
from trt_mpq.lint.values import Hit


def leftover_pairs(graph: QdqGraph) -> Iterator[Hit]:
    """DQ directly followed by a Q that undoes it."""
    for step in graph.quantizers:
        before = graph.step(step.source)
        if before is not None and not before.quantizes and before.same_scale(step) and before.codes is step.codes:
            yield Hit(
                (name_of(before.node), name_of(step.node)),
                (str(step.source.name),),
                "DequantizeLinear and QuantizeLinear of one scale follow each other and undo each other: remove both",
            )


def requantizations(graph: QdqGraph) -> Iterator[Hit]:
    """DQ followed by a Q of another scale or type: a kernel of its own."""
    for step in graph.quantizers:
        before = graph.dequantizer_before(step.source)
        if before is not None and not (before.same_scale(step) and before.codes is step.codes):
            yield Hit(
                (name_of(before.node), name_of(step.node)),
                (str(step.source.name),),
                "the tensor is quantized again with another scale or type, which is a kernel of its "
                "own: use one quantizer",
            )


def concat_scales(graph: QdqGraph) -> Iterator[Hit]:
    """All that a Concat joins has one scale, or TensorRT requantizes every input."""
    for node in graph.graph:
        if node.op_type != "Concat":
            continue
        by_codes: dict[ir.DataType | None, list[Step]] = defaultdict(list)
        for step in _around(graph, node):
            by_codes[step.codes].append(step)
        if any(not step.same_scale(steps[0]) for steps in by_codes.values() for step in steps):
            yield Hit(
                (name_of(node),),
                names_of([*node.inputs, *node.outputs]),
                "what it joins and writes is quantized with different scales, each difference is a "
                "requantization: give all of it one scale",
            )


def _around(graph: QdqGraph, concat: ir.Node) -> Iterator[Step]:
    """Quantizers of what a Concat reads and writes."""
    for value in concat.inputs:
        if value is not None:
            if (step := graph.dequantizer_before(value)) is not None:
                yield step
            yield from _quantizers_on(graph, value)
    yield from _quantizers_on(graph, concat.outputs[0])


def _quantizers_on(graph: QdqGraph, value: ir.Value) -> Iterator[Step]:
    for node, index in value.uses():
        step = graph.step(node.outputs[0])
        if index == 0 and step is not None and step.quantizes:
            yield step


def two_scales(graph: QdqGraph) -> Iterator[Hit]:
    """One tensor, one quantizer: of two, at most one fuses into the layer before."""
    for tensor, first, others in _repeated(graph):
        different = [step for step in others if not step.same_scale(first)]
        if different:
            yield Hit(
                tuple(name_of(step.node) for step in (first, *different)),
                (tensor,),
                "the tensor is quantized with several scales, of which at most one fuses with the "
                "layer before: give all readers one quantizer",
            )


def duplicates(graph: QdqGraph) -> Iterator[Hit]:
    """The same quantizer twice on one tensor."""
    for tensor, first, others in _repeated(graph):
        equal = [step for step in others if step.same_scale(first)]
        if equal:
            names = tuple(name_of(step.node) for step in (first, *equal))
            yield Hit(
                names, (tensor,), "the tensor is quantized several times alike: let all readers share one quantizer"
            )


def _repeated(graph: QdqGraph) -> Iterator[tuple[str, Step, list[Step]]]:
    """Tensors with more than one quantizer of a type: their name, the first quantizer, the others."""
    by_tensor: dict[tuple[ir.Value, ir.DataType | None], list[Step]] = defaultdict(list)
    for step in graph.quantizers:
        by_tensor[step.source, step.codes].append(step)
    for (tensor, _), (first, *others) in by_tensor.items():
        if others:
            yield str(tensor.name), first, others


def movable(graph: QdqGraph) -> Iterator[Hit]:
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


def casts(graph: QdqGraph) -> Iterator[Hit]:
    """A Cast behind a DQ hides it from the layer that would fuse it; a Cast of a Cast is a kernel for nothing."""
    for node in graph.graph:
        value = node.inputs[0] if node.op_type == "Cast" else None
        writer = None if value is None else value.producer()
        if value is None or writer is None:
            continue
        if writer.op_type in DEQUANTIZE:
            advice = (
                "a Cast behind the DequantizeLinear keeps it from fusing: give the DequantizeLinear a "
                "scale of the type wanted"
            )
        elif (
            writer.op_type == "Cast"
            and writer.inputs[0] is not None
            and _is_float(writer.inputs[0])
            and _is_float(node.outputs[0])
        ):
            advice = "two Casts follow each other: cast once"
        else:
            continue
        yield Hit((name_of(node), name_of(writer)), (str(value.name),), advice)


def _is_float(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()
