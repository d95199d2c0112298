"""Where quantizers stand in the way of a fusion, or cost a kernel of their own.

Sources: TensorRT developer guide, "Explicit quantization", Q/DQ placement recommendations; Model Optimizer's
treatment of residual Adds.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from trt_mpq.lint.graph import DEQUANTIZE, QdqGraph, Step, dims, name_of, names_of
from trt_mpq.lint.refusals import TENSORRT_CODES, WEIGHT_ONLY
from trt_mpq.lint.values import Hit

_EPILOGUES = frozenset(
    {
        *("Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "Elu", "Gelu"),
        *("Softplus", "BatchNormalization"),
    }
)
"""What TensorRT fuses behind a weighted operator, unless a quantizer stands between."""
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


def unpaired_quantize(graph: QdqGraph) -> Iterator[Hit]:
    """Codes that something else than a DQ reads."""
    for step in graph.steps:
        if step.quantizes:
            strangers = [node for node, _ in graph.readers(step.result) if node.op_type not in DEQUANTIZE]
            if strangers:
                yield Hit(
                    tuple(map(name_of, (step.node, *strangers))),
                    (str(step.source.name),),
                    "codes are read without a DequantizeLinear, which TensorRT cannot interpret: put "
                    "one before the reader",
                )


def unpaired_dequantize(graph: QdqGraph) -> Iterator[Hit]:
    """Codes that no Q wrote and the file does not store."""
    for step in graph.dequantizers:
        if not graph.is_constant(step.source) and graph.quantizer_of(step) is None:
            yield _on(
                step,
                "codes that no QuantizeLinear wrote stay in a kernel of their own: quantize in the "
                "graph, or feed floats",
            )


def half_quantized(graph: QdqGraph) -> Iterator[Hit]:
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


def biases(graph: QdqGraph) -> Iterator[Hit]:
    """Biases are added in the accumulator, in high precision."""
    for node in graph.weighted():
        step = graph.dequantized(node.inputs[2]) if len(node.inputs) > 2 else None
        if step is not None and step.codes is not ir.DataType.INT32:
            yield Hit(
                (name_of(node),),
                names_of(node.inputs[2:]),
                "its bias is quantized, which no fused kernel reads: leave it in floating point",
            )


def blocked_epilogues(graph: QdqGraph) -> Iterator[Hit]:
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


def residuals(graph: QdqGraph) -> Iterator[Hit]:
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


def standalone(graph: QdqGraph) -> Iterator[Hit]:
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


def pool_outputs(graph: QdqGraph) -> Iterator[Hit]:
    """Recommendation 5: layers without weights that read INT8 have to write INT8 too."""
    for node in graph.graph:
        if node.op_type in _POOLS and graph.dequantized(node.inputs[0]) and not graph.is_requantized(node.outputs[0]):
            yield Hit(
                (name_of(node),),
                names_of([node.inputs[0], node.outputs[0]]),
                "its input is quantized and its output is not, so it runs in high precision behind a "
                "DequantizeLinear of its own: quantize both or neither",
            )


def _on(step: Step, message: str) -> Hit:
    return Hit((name_of(step.node),), (str(step.source.name),), message)
