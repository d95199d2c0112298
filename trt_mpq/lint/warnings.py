"""What builds, with Q/DQ that stand in the way of a fusion or cost kernels, or with an outcome nobody knows.

Sources: TensorRT developer guide, "Explicit quantization", Q/DQ placement recommendations; Model Optimizer's
treatment of residual Adds, its one scale for all that a Concat joins, and its limits on shapes
(`trt_mpq.groups.exclusions`), which are warnings because a device may know better.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from trt_mpq.graph.operators import ACTIVATIONS, DEQUANTIZE
from trt_mpq.groups.anchors import Anchor, anchor_of
from trt_mpq.groups.exclusions import first_layers, modelopt_exclusions
from trt_mpq.lint.findings import Check, Hit
from trt_mpq.lint.graph import TENSORRT_CODES, WEIGHT_ONLY, QdqGraph, Step, dims, name_of, names_of
from trt_mpq.types import Precision

_PRECISIONS = {ir.DataType.INT8: Precision.INT8, ir.DataType.FLOAT8E4M3FN: Precision.FP8}
_EPILOGUES = ACTIVATIONS | {"PRelu", "BatchNormalization"}
"""What TensorRT fuses behind a weighted operator, unless a quantizer stands between.

Groups take neither of the last two: BatchNorm is folded before they are made, and no PRelu joins them.
"""
_POOLS = frozenset({"AveragePool", "GlobalAveragePool"})
_ALONE = frozenset(
    {
        *("Softmax", "LogSoftmax", "LayerNormalization", "InstanceNormalization", "GroupNormalization", "Resize"),
        *("Upsample", "Sigmoid", "Tanh", "Erf", "Exp", "Log", "Sqrt", "Pow", "Gelu", "HardSwish", "Elu", "Softplus"),
        *("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ArgMax", "ArgMin", "TopK", "Shape"),
        *("LSTM", "GRU", "RNN", "GridSample", "NonMaxSuppression", "RoiAlign", "CumSum", "LpNormalization", "Where"),
    }
)
"""Operators without an INT8 or FP8 kernel: they read the DQ's floats."""


def _unpaired_dequantize(graph: QdqGraph) -> Iterator[Hit]:
    """Codes that no Q wrote and the file does not store."""
    for step in graph.dequantizers:
        if not graph.is_constant(step.source) and graph.quantizer_of(step) is None:
            yield Hit.on(
                step,
                "codes that no QuantizeLinear wrote stay in a kernel of their own: quantize in the "
                "graph, or feed floats",
            )


def _half_quantized(graph: QdqGraph) -> Iterator[Hit]:
    """Recommendation 1: quantize all inputs of weighted operators, alike. Weight-only formats are the exception."""
    for node in graph.weighted():
        data, weight = (graph.dequantized(value) for value in node.inputs[:2])
        if weight is not None and weight.codes in WEIGHT_ONLY:
            continue
        if data is not None and weight is not None:
            formats = {data.codes, weight.codes}
            if len(formats) > 1 and formats <= TENSORRT_CODES:
                why = "its inputs are quantized to different types, for which there is no kernel: quantize both alike"
                yield Hit((name_of(node),), names_of(node.inputs[:2]), why)
        elif data is not None or weight is not None:
            which, other = ("first", "second") if data is not None else ("second", "first")
            why = (
                f"its {which} input is quantized and its {other} is not, so it runs in high precision and the Q/DQ "
                "is overhead: quantize both or neither"
            )
            yield Hit((name_of(node),), names_of(node.inputs[:2]), why)


def _biases(graph: QdqGraph) -> Iterator[Hit]:
    """Biases are added in the accumulator, in high precision."""
    for node in graph.weighted():
        step = graph.dequantized(node.inputs[2]) if len(node.inputs) > 2 else None
        if step is not None and step.codes is not ir.DataType.INT32:
            yield Hit(
                (name_of(node),),
                names_of(node.inputs[2:]),
                "its bias is quantized, which no fused kernel reads: leave it in floating point",
            )


def _blocked_epilogues(graph: QdqGraph) -> Iterator[Hit]:
    """Recommendation 2: outputs of weighted operators are not quantized before what fuses behind them."""
    for step in graph.quantizers:
        branch = graph.branch(step.source)
        if branch is None:
            continue
        for pair in graph.dequantizers_of(step):
            for node, index in pair.result.uses():
                epilogue = node.op_type in _EPILOGUES and index == 0
                if epilogue or (node.op_type == "Add" and not _takes_residual(graph, node, index)):
                    yield _blocked(step, branch, node)


def _blocked(step: Step, branch: ir.Node, node: ir.Node) -> Hit:
    return Hit(
        (name_of(step.node), name_of(branch), name_of(node)),
        (str(step.source.name),),
        f"a quantizer between {name_of(branch)} and {name_of(node)} keeps them from fusing: move it "
        f"behind {name_of(node)} or remove it",
    )


def _takes_residual(graph: QdqGraph, add: ir.Node, index: int) -> bool:
    """Whether the other operand is the output of a weighted operator, into which this Add fuses."""
    other = add.inputs[1 - index]
    return other is not None and graph.branch(other) is not None and len(other.uses()) == 1


def _residuals(graph: QdqGraph) -> Iterator[Hit]:
    """Recommendation 4: an 8-bit convolution that takes a skip Add writes 8 bit only if the skip is quantized."""
    for node in graph.graph:
        if node.op_type != "Add" or any(graph.is_constant(value) for value in node.inputs):
            continue
        owner, skip = _owner(graph, node)
        if owner is None or skip is None or graph.dequantized(skip) is not None or not graph.in_eight_bit(owner):
            continue
        if _trailing_quantize(graph, node):
            yield Hit(
                (name_of(node), name_of(owner)),
                (str(skip.name),),
                f"the skip input is not quantized, so {name_of(owner)} writes high precision and the "
                "QuantizeLinear behind the Add cannot fuse: quantize the skip input",
            )


def _owner(graph: QdqGraph, add: ir.Node) -> tuple[ir.Node | None, ir.Value | None]:
    """The weighted operator that takes the Add (the later of two) and the Add's other operand."""
    found: list[tuple[int, ir.Node, ir.Value | None]] = []
    for index, value in enumerate(add.inputs):
        branch = graph.branch(value)
        other = add.inputs[1 - index]
        if branch is not None and value is not None and len(value.uses()) == 1 and dims(value) == dims(other):
            found.append((graph.order[branch], branch, other))
    if not found:
        return None, None
    _, owner, skip = max(found, key=lambda item: item[0])
    return owner, skip


def _trailing_quantize(graph: QdqGraph, add: ir.Node) -> bool:
    """Whether what the Add and an activation behind it write is quantized."""
    output = add.outputs[0]
    after = [user.outputs[0] for user, _ in output.uses() if user.op_type in _EPILOGUES]
    return any(graph.is_requantized(value) for value in (output, *after))


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


def _requantizations(graph: QdqGraph) -> Iterator[Hit]:
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


def _concat_scales(graph: QdqGraph) -> Iterator[Hit]:
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


def _two_scales(graph: QdqGraph) -> Iterator[Hit]:
    """One tensor, one quantizer: of two, at most one fuses into the layer before."""
    for tensor, first, others in graph.repeated():
        different = [step for step in others if not step.same_scale(first)]
        if different:
            yield Hit(
                tuple(name_of(step.node) for step in (first, *different)),
                (tensor,),
                "the tensor is quantized with several scales, of which at most one fuses with the "
                "layer before: give all readers one quantizer",
            )


def _standalone(graph: QdqGraph) -> Iterator[Hit]:
    """A quantizer that only operators without 8-bit kernels read rounds, costs two kernels and saves nothing."""
    for step in graph.quantizers:
        pairs = graph.dequantizers_of(step)
        readers = [node for pair in pairs for node, _ in graph.readers(pair.result)]
        if pairs and all(node.op_type in _ALONE and node.domain == "" for node in readers):
            who = ", ".join(dict.fromkeys(node.op_type for node in readers)) or "an output of the network"
            yield Hit(
                tuple(map(name_of, (step.node, *readers))),
                (str(step.source.name),),
                f"nothing that reads it runs in 8 bit ({who}): remove the quantizer",
            )


def _pool_outputs(graph: QdqGraph) -> Iterator[Hit]:
    """Recommendation 5: layers without weights that read INT8 have to write INT8 too."""
    for node in graph.graph:
        if node.op_type in _POOLS and graph.dequantized(node.inputs[0]) and not graph.is_requantized(node.outputs[0]):
            yield Hit(
                (name_of(node),),
                names_of([node.inputs[0], node.outputs[0]]),
                "its input is quantized and its output is not, so it runs in high precision behind a "
                "DequantizeLinear of its own: quantize both or neither",
            )


def _casts(graph: QdqGraph) -> Iterator[Hit]:
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


def _mixed_formats(graph: QdqGraph) -> Iterator[Hit]:
    """Whether INT8 and FP8 may share one network is not documented; one source says no."""
    by_codes = {
        codes: [step for step in graph.quantizers if step.codes is codes]
        for codes in (ir.DataType.INT8, ir.DataType.FLOAT8E4M3FN)
    }
    if all(by_codes.values()):
        counts = " and ".join(f"{len(steps)} {_PRECISIONS[codes].name}" for codes, steps in by_codes.items())
        yield Hit(
            (),
            (),
            f"{counts} quantizers share the network, and whether TensorRT builds both into one network is "
            "unknown: use one format",
        )


def _small_layers(graph: QdqGraph) -> Iterator[Hit]:
    """Matrix times vector, few or misaligned channels, large FP8 kernels."""
    quantized = [node for node in graph.weighted() if graph.in_eight_bit(node) and graph.is_constant(node.inputs[1])]
    anchors = {node: anchor for node in graph.weighted() if (anchor := _anchor(node)) is not None}
    first = first_layers(graph.graph, anchors.values())
    for node in quantized:
        step = graph.dequantized(node.inputs[1])
        precision = None if step is None else _PRECISIONS.get(step.codes or ir.DataType.UNDEFINED)
        if node not in anchors or precision is None:
            continue
        reasons = modelopt_exclusions(anchors[node], first=node in first, batch_is_free=graph.batch_is_free)
        if reason := reasons.get(precision):
            yield Hit(
                (name_of(node),),
                (),
                f"Model Optimizer leaves it out of {precision.name} ({reason}): measure it, or leave it in FP16",
            )


def _anchor(node: ir.Node) -> Anchor | None:
    """The weighted operator as grouping sees it, with its weight as if it were stored in FP32."""
    data, weight = node.inputs[:2]
    shapes = [dims(value) for value in (data, weight, node.outputs[0])]
    if data is None or weight is None or None in shapes or len(shapes[1] or ()) < 2:
        return None
    stand_in = ir.tensor(np.empty(shapes[1] or (), np.float32))
    constant = ir.Value(
        name=weight.name, shape=weight.shape, type=ir.TensorType(ir.DataType.FLOAT), const_value=stand_in
    )
    twin = ir.node(node.op_type, [data, constant], node.attributes)
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


WARNINGS: Mapping[str, Check] = {
    "unpaired-dequantize": _unpaired_dequantize,
    "half-quantized": _half_quantized,
    "bias-quantized": _biases,
    "blocked-epilogue": _blocked_epilogues,
    "residual-high-precision": _residuals,
    "dq-q-leftover": _leftover_pairs,
    "requantize": _requantizations,
    "concat-scales": _concat_scales,
    "tensor-two-scales": _two_scales,
    "standalone": _standalone,
    "pool-output": _pool_outputs,
    "cast": _casts,
    "mixed-formats": _mixed_formats,
    "kernel-limit": _small_layers,
    "weak-stored-weight": _weak_codes,
}
"""Rules whose breach is a warning: id to what finds breaches."""
