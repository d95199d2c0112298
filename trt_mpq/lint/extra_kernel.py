"""What compiles with Q/DQ that stay kernels of their own, or keep others from fusing.

Sources: TensorRT developer guide, "Explicit quantization", Q/DQ placement recommendations; Model Optimizer's treatment
of residual Adds and its one scale for all that a Concat joins. `bench/results/lint-truth.md` says which of these
TensorRT for RTX shows: its convolutions hand floats to a pointwise kernel, which takes most quantizers for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx_ir as ir

from trt_mpq.graph.operators import ACTIVATIONS, PRODUCTS
from trt_mpq.groups.scales import LEAST_SCALE_RATIO
from trt_mpq.lint.concats import unlike_concats
from trt_mpq.lint.findings import Check, Hit
from trt_mpq.lint.graph import OPERANDS, WEIGHT_ONLY, QdqGraph, Step, dims, name_of, names_of

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
    """All that a Concat joins has one scale, unless it differs so much that a requantization is worth it."""
    for node, ratio in unlike_concats(graph):
        if ratio <= LEAST_SCALE_RATIO:
            yield Hit(
                (name_of(node),),
                names_of([*node.inputs, *node.outputs]),
                "what it joins and writes is quantized with different scales, each difference is a "
                "requantization: give all of it one scale",
            )


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


def _narrow_weights(graph: QdqGraph) -> Iterator[Hit]:
    """Weights of 4 bit are made for high precision beside them."""
    for node in graph.weighted():
        data, weight = map(graph.dequantized, graph.operands(node))
        widened = data is not None and data.codes is ir.DataType.INT8 and node.op_type in PRODUCTS
        if widened and weight is not None and weight.codes in WEIGHT_ONLY:
            yield Hit(
                (name_of(node),),
                names_of(node.inputs[:OPERANDS]),
                f"a kernel of its own widens its {weight.codes.name} weight to INT8: leave its other operand in "
                "floating point, or store the weight in INT8",
            )


EXTRA_KERNEL: Mapping[str, Check] = {
    "blocked-epilogue": _blocked_epilogues,
    "residual-high-precision": _residuals,
    "requantize": _requantizations,
    "concat-scales": _concat_scales,
    "tensor-two-scales": _two_scales,
    "standalone": _standalone,
    "pool-output": _pool_outputs,
    "narrow-weight": _narrow_weights,
}
"""Rules whose breach costs a kernel: id to what finds breaches."""
