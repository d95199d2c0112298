"""What TensorRT takes, fuses and computes as the file says, and what yet is worth a look: likely mistakes, other tools.

`bench/results/lint-truth.md` has the graphs. Model Optimizer's limits on shapes (`trt_mpq.groups.exclusions`) are here
because a device may know better.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from trt_mpq.graph.operators import INTEGER
from trt_mpq.groups.anchors import Anchor, anchor_of
from trt_mpq.groups.exclusions import first_layers, modelopt_exclusions, source_of
from trt_mpq.groups.scales import LEAST_SCALE_RATIO
from trt_mpq.lint.concats import unlike_concats
from trt_mpq.lint.findings import Check, Hit
from trt_mpq.lint.graph import CARRYING, QdqGraph, Step, dims, name_of, names_of
from trt_mpq.lint.high_precision import missing_kernel
from trt_mpq.types import Precision

_HALF_NORMAL = 2.0**-14
_FP8_OPSET = 19
_PER_CHANNEL_OPSET = 13
_TYPED_OPSET = 19
"""From here on ONNX wants the scale in the type of the tensor."""
_PRECISIONS = {ir.DataType.INT8: Precision.INT8, ir.DataType.FLOAT8E4M3FN: Precision.FP8}


def _no_quantizers(graph: QdqGraph) -> Iterator[Hit]:
    """A file without Q/DQ: there is nothing to judge."""
    if not graph.steps and not any(node.op_type in INTEGER for node in graph.graph):
        why = "the file holds no QuantizeLinear or DequantizeLinear: all of it runs in the precision it is stored in"
        yield Hit((), (), why)


def _pairs(graph: QdqGraph) -> Iterator[Hit]:
    """A Q and its DQ with different parameters multiply the tensor by the ratio, which nobody means."""
    for step in graph.dequantizers:
        quantizer = graph.quantizer_of(step)
        if quantizer is not None and (not quantizer.same_scale(step) or quantizer.codes is not step.codes):
            yield Hit(
                (name_of(step.node), name_of(quantizer.node)),
                (str(quantizer.source.name),),
                "the DequantizeLinear has another scale or type than its QuantizeLinear, which multiplies the tensor "
                "by their ratio: give both the same",
            )


def _scale_types(graph: QdqGraph) -> Iterator[Hit]:
    """ONNX wants tensor and scale of a Q in one type; TensorRT casts."""
    for step in graph.steps:
        if not step.quantizes or step.scale is None or graph.opset < _TYPED_OPSET or step.node.domain:
            continue
        tensor, scale = step.source.dtype, step.scale.dtype
        if tensor is not None and scale is not None and tensor is not scale:
            yield Hit.on(
                step,
                f"the tensor is {tensor.name} and the scale {scale.name}, which TensorRT takes and ONNX forbids: cast "
                "the scale for other tools to read the file",
            )


def _opsets(graph: QdqGraph) -> Iterator[Hit]:
    """What needs a newer opset than the file has: TensorRT does not look, others do."""
    for step in graph.parameters:
        scale = dims(step.scale)
        if step.codes is ir.DataType.FLOAT8E4M3FN and step.node.domain == "" and graph.opset < _FP8_OPSET:
            yield Hit.on(step, _newer("FP8 codes", _FP8_OPSET, graph.opset))
        elif scale is not None and int(np.prod(scale)) > 1 and graph.opset < _PER_CHANNEL_OPSET:
            yield Hit.on(step, _newer("scales per channel", _PER_CHANNEL_OPSET, graph.opset))


def _newer(what: str, opset: int, found: int) -> str:
    return f"{what} came with opset {opset}, the file has {found}: TensorRT takes it, export again for other tools"


def _biases(graph: QdqGraph) -> Iterator[Hit]:
    """Biases are added in high precision."""
    for node in graph.weighted():
        step = graph.dequantized(node.inputs[2]) if len(node.inputs) > 2 else None
        if step is not None and step.codes is not ir.DataType.INT32:
            yield Hit(
                (name_of(node),),
                names_of(node.inputs[2:]),
                "its bias is quantized, which saves nothing: leave it in floating point",
            )


def _leftover_pairs(graph: QdqGraph) -> Iterator[Hit]:
    """DQ directly followed by a Q that undoes it."""
    for step in graph.quantizers:
        before = graph.step(step.source)
        if before is not None and not before.quantizes and before.same_scale(step) and before.codes is step.codes:
            yield Hit(
                (name_of(before.node), name_of(step.node)),
                (str(step.source.name),),
                "DequantizeLinear and QuantizeLinear of one scale follow each other and undo each other: remove both",
            )


def _mixed_formats(graph: QdqGraph) -> Iterator[Hit]:
    """TensorRT for RTX builds both into one network; for others nothing is documented."""
    by_codes = {
        codes: [step for step in graph.quantizers if step.codes is codes]
        for codes in (ir.DataType.INT8, ir.DataType.FLOAT8E4M3FN)
    }
    if all(by_codes.values()):
        counts = " and ".join(f"{len(steps)} {_PRECISIONS[codes].name}" for codes, steps in by_codes.items())
        yield Hit(
            (),
            (),
            f"{counts} quantizers share the network, which TensorRT for RTX builds and no document promises of others: "
            "try it on the device",
        )


def _small_layers(graph: QdqGraph) -> Iterator[Hit]:
    """Matrix times vector, few or misaligned channels, large FP8 kernels."""
    quantized = [n for n in graph.weighted() if graph.in_eight_bit(n) and graph.is_constant(graph.operands(n)[1])]
    anchors = {node: anchor for node in graph.weighted() if (anchor := _anchor(graph, node)) is not None}
    first = first_layers(graph.graph, anchors.values())
    for node in quantized:
        step = graph.dequantized(graph.operands(node)[1])
        precision = None if step is None else _PRECISIONS.get(step.codes or ir.DataType.UNDEFINED)
        if node not in anchors or precision is None or missing_kernel(graph, node):
            continue
        reasons = modelopt_exclusions(anchors[node], first=node in first, batch_is_free=graph.batch_is_free)
        if reason := reasons.get(precision):
            yield Hit(
                (name_of(node),),
                (),
                f"better left out of {precision.name} ({reason}; {source_of(reason)}): measure it, or leave it in FP16",
            )


def _anchor(graph: QdqGraph, node: ir.Node) -> Anchor | None:
    """The weighted operator as grouping sees it, with its weight as if it were stored in FP32."""
    data, weight = graph.operands(node)
    shapes = [dims(value) for value in (data, weight, node.outputs[0])]
    if data is None or weight is None or None in shapes or len(shapes[1] or ()) < 2:
        return None
    stand_in = ir.tensor(np.broadcast_to(np.float32(0), shapes[1] or ()))
    constant = ir.Value(
        name=weight.name, shape=weight.shape, type=ir.TensorType(ir.DataType.FLOAT), const_value=stand_in
    )
    twin = ir.node(node.op_type, [data, constant][:: 1 if graph.weight_index(node) else -1], node.attributes)
    twin.outputs[0].shape = node.outputs[0].shape
    anchor = anchor_of(twin)
    return None if anchor is None else replace(anchor, node=node)


def _weak_codes(graph: QdqGraph) -> Iterator[Hit]:
    """Earlier 8.x versions refuse INT8 constants, whether 8.6 takes them is unknown."""
    for step in graph.dequantizers if graph.weak else ():
        if step.source.const_value is not None and step.codes is ir.DataType.INT8:
            yield Hit.on(
                step,
                "whether TensorRT 8.6 reads weights stored as INT8 is unknown: store them in FP32 "
                "with a QuantizeLinear",
            )


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


def _own_scales(graph: QdqGraph) -> Iterator[Hit]:
    """A Concat of so different scales that one for all would cost more than the requantization."""
    for node, ratio in unlike_concats(graph):
        if ratio > LEAST_SCALE_RATIO:
            yield Hit(
                (name_of(node),),
                names_of([*node.inputs, *node.outputs]),
                f"what it joins keeps scales of its own, which are {ratio:.3g} times apart: a requantization each, "
                f"where one scale for all would cost the smallest {np.log2(ratio):.1f} of its bits",
            )


def _between(steps: list[Step]) -> str:
    crossed: dict[str, None] = {}
    for step in steps:
        node = step.source.producer()
        while node is not None and node.op_type in CARRYING and node.inputs[0] is not None:
            crossed[node.op_type] = None
            node = node.inputs[0].producer()
    return ", ".join(crossed)


NOTES: Mapping[str, Check] = {
    "no-quantizers": _no_quantizers,
    "pair-mismatch": _pairs,
    "scale-type": _scale_types,
    "opset": _opsets,
    "bias-quantized": _biases,
    "dq-q-leftover": _leftover_pairs,
    "mixed-formats": _mixed_formats,
    "kernel-limit": _small_layers,
    "weak-stored-weight": _weak_codes,
    "scale-subnormal": _subnormal_scales,
    "duplicate-quantizer": _duplicates,
    "movable": _movable,
    "concat-own-scales": _own_scales,
}
"""Rules whose breach is a note: id to what finds breaches."""
