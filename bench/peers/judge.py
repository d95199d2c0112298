"""One judge for what every peer delivers: what it scores, what runs in 8 bit, and what TensorRT would make of it.

- **Accuracy** is that of the delivered file in our reference runtime, whose options keep the numerics that the file
  states (`trt_mpq.runtime.onnxruntime`): ONNX Runtime's own Q/DQ passes change them.
- **Multiply-adds in 8 bit** are those of operators both of whose operands come from a DequantizeLinear of the same
  8-bit format.
- **Latency** is our model's for our groups, each in the precision its operators have in the file, whatever made them.
  All else counts as FP16, also where a file leaves it in FP32 or quantizes it to 16 bit. What the linter finds is not
  in it: a file whose quantizers TensorRT cannot fuse, or refuses, is modelled as if it could.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from bench.peers.subjects import BATCH, Subject
from trt_mpq.errors import ModelError, TrtMpqError
from trt_mpq.graph.operators import PRODUCTS, WEIGHTED
from trt_mpq.groups.shapes import bind_shapes, elements, shape_of
from trt_mpq.latency.roofline import LatencyModel
from trt_mpq.latency.target import target_from_name
from trt_mpq.lint import lint_graph
from trt_mpq.lint.graph import QdqGraph
from trt_mpq.model import load_graph
from trt_mpq.types import Grouping, Precision, PrecisionPlan

DEVICE = "l4"
"""The GPU that latencies are modelled for: it computes in INT8 and in FP8."""

_CODES = {
    ir.DataType.INT8: Precision.INT8,
    ir.DataType.UINT8: Precision.INT8,
    ir.DataType.FLOAT8E4M3FN: Precision.FP8,
}
_SUFFIX = "_quant"
"""What Intel Neural Compressor puts behind the names of operators that it quantizes."""


@dataclass(frozen=True)
class Verdict:
    """What a delivered file is worth.

    Attributes:
        accuracy: Its task score over that of the FP32 model; None if it does not run.
        eight_bit: Share of multiply-adds in 8 bit; None if its operators are not those of the model.
        latency: Modelled latency over that of the uniform FP16 plan; None with `eight_bit`.
        findings: Severity to the rules broken and how often.
        remarks: Why something is None.
    """

    accuracy: float | None
    eight_bit: float | None
    latency: float | None
    findings: Mapping[str, Mapping[str, int]]
    remarks: tuple[str, ...] = ()


def judge(delivered: Path, subject: Subject) -> Verdict:
    """The verdict on a file; what cannot be told is None, with a remark.

    Raises:
        ModelError: The file is no valid ONNX.
    """
    graph = load_graph(delivered)
    remarks = []
    accuracy = eight_bit = latency = None
    try:
        accuracy = subject.score(delivered).value / subject.fp32.value
    except TrtMpqError as error:
        remarks.append(str(error))
    try:
        macs = multiply_adds(bind_shapes(subject.graph, subject.sample_shapes))
        precisions = precisions_in(graph, subject.graph, subject.sample_shapes)
        eight_bit = eight_bit_share(macs, precisions)
        latency = relative_latency(subject.grouping, precisions)
    except TrtMpqError as error:
        remarks.append(str(error))
    return Verdict(accuracy, eight_bit, latency, findings_in(graph), tuple(remarks))


def multiply_adds(bound: ir.Model) -> dict[str, int]:
    """Name of every weighted operator to its multiply-adds.

    Args:
        bound: A graph whose shapes are all known.
    """
    return {str(node.name): _multiply_adds(node) for node in bound.graph if node.op_type in WEIGHTED}


def _multiply_adds(node: ir.Node) -> int:
    data, weight = node.inputs[:2]
    assert data is not None
    assert weight is not None
    output = elements(node.outputs[0])
    if node.op_type == "Conv":
        return output * math.prod(shape_of(weight)[1:])
    if node.op_type == "ConvTranspose":
        return elements(data) * math.prod(shape_of(weight)[1:])
    transposed = node.op_type == "Gemm" and bool(node.attributes.get_int("transA", 0))
    return output * shape_of(data)[0 if transposed else -1]


def precisions_in(
    delivered: ir.Model, original: ir.Model, sample_shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Precision]:
    """Name of every weighted operator of the original model to the precision it has in the delivered one.

    Operators are found by name, else by their place in the order of the network. FP16 stands for all that is not 8 bit.

    Raises:
        ModelError: The delivered file does not have the same weighted operators.
    """
    graph = QdqGraph(_with_shapes(delivered, sample_shapes))
    found = {str(node.name).removesuffix(_SUFFIX): node for node in graph.weighted()}
    wanted = [node for node in original.graph if node.op_type in WEIGHTED]
    if not all(node.name in found for node in wanted):
        found = _by_order(list(graph.weighted()), wanted)
    return {str(node.name): _precision(graph, found[str(node.name)]) for node in wanted}


def _by_order(delivered: list[ir.Node], wanted: list[ir.Node]) -> dict[str, ir.Node]:
    if [_kind(node) for node in delivered] != [_kind(node) for node in wanted]:
        raise ModelError(
            f"its {len(delivered)} weighted operators are not the model's {len(wanted)}: its plan cannot be read"
        )
    return {str(node.name): match for node, match in zip(wanted, delivered, strict=True)}


def _kind(node: ir.Node) -> str:
    # Tools turn one matrix product into the other.
    return "product" if node.op_type in PRODUCTS else node.op_type


def _with_shapes(model: ir.Model, sample_shapes: Mapping[str, tuple[int, ...]]) -> ir.Model:
    copy = model.clone()
    for value in copy.graph.inputs:
        if (shape := sample_shapes.get(str(value.name))) is not None:
            value.shape = ir.Shape(shape)
    return copy


def _precision(graph: QdqGraph, node: ir.Node) -> Precision:
    steps = [graph.dequantized(value) for value in node.inputs[:2]]
    formats = {_CODES.get(step.codes) if step is not None and step.codes is not None else None for step in steps}
    (only, *others) = formats
    return only if only is not None and not others else Precision.FP16


def eight_bit_share(macs: Mapping[str, int], precisions: Mapping[str, Precision]) -> float:
    """Share of multiply-adds whose operators run in 8 bit."""
    lowered = sum(count for name, count in macs.items() if precisions[name].spec.activations is not None)
    return lowered / sum(macs.values())


def relative_latency(grouping: Grouping, precisions: Mapping[str, Precision]) -> float:
    """Modelled latency of the plan that a file holds, over that of the uniform FP16 plan."""
    model = LatencyModel(grouping, target_from_name(DEVICE), BATCH)
    fp16 = PrecisionPlan.uniform(grouping.groups, Precision.FP16, Precision.FP16)
    return model.plan_ms(plan_of(grouping, precisions)) / model.plan_ms(fp16)


def plan_of(grouping: Grouping, precisions: Mapping[str, Precision]) -> PrecisionPlan:
    """Our groups in the precision of their operators: FP16 where these differ, as then no kernel takes them all."""

    def precision(nodes: tuple[str, ...]) -> Precision:
        (first, *others) = {precisions[name] for name in nodes if name in precisions}
        return Precision.FP16 if others else first

    return PrecisionPlan.of({group.id: precision(group.nodes) for group in grouping.groups})


def findings_in(graph: ir.Model) -> dict[str, dict[str, int]]:
    """What the placement linter finds: severity to rule to how often."""
    counts = Counter((finding.severity.value, finding.rule) for finding in lint_graph(graph))
    severities = dict.fromkeys(severity for severity, _ in counts)
    return {
        severity: {rule: count for (own, rule), count in counts.items() if own == severity} for severity in severities
    }
