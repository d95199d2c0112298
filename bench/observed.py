"""Plans of networks as NVIDIA's compiler realises them: its kernels against what groups and latency model assume."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from bench.compiled import ADA, BATCH, Compiled, compiled
from bench.grouping import all_groups
from bench.program import ATTENTION, Kernel
from trt_mpq.emit.emitter import Emitter
from trt_mpq.graph.operators import DEQUANTIZE, QUANTIZE
from trt_mpq.latency.dataflow import Dataflow
from trt_mpq.model import load_graph, prepare_model
from trt_mpq.types import Grouping, LayerGroup, Precision, PrecisionPlan, Ranges, TensorRange

TYPES = {
    "float": Precision.FP32, "half": Precision.FP16, "bf16": Precision.BF16, "int8": Precision.INT8,
    "fp8_e4m3": Precision.FP8, "fp4_e2m1": Precision.NVFP4,
}  # fmt: skip
"""What a program calls the formats."""
WEIGHT_ONLY = {"int8": Precision.W8A16, "int4": Precision.W4A16}
"""What a kernel computes in that widens weights of a type, which it reads, to the type it multiplies."""
_AMAX = {precision: 4.0 for precision in Precision if precision.spec.activations is not None}
"""Any range will do: which kernels are chosen does not depend on it."""
_NORMALIZATIONS = frozenset({"LayerNormalization", "InstanceNormalization", "GroupNormalization"})


class Subject:
    """A network and its groups, nothing excluded, with plans of it as strongly typed graphs.

    Args:
        name: For tables.
        source: An ONNX file.
        shapes: Input name to the shape of one sample, batch dimension 1.
    """

    def __init__(self, name: str, source: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.name, self._shapes = name, shapes
        with tempfile.TemporaryDirectory() as folder:
            prepared = Path(folder) / "model.onnx"
            prepare_model(source, prepared)
            self._graph = ir.from_proto(ir.to_proto(load_graph(prepared)))
        self.grouping = all_groups(self._graph, shapes)

    @classmethod
    def from_samples(cls, path: Path, samples: Path, name: str) -> Subject:
        """A network and its samples, an `.npz` of input name to rows."""
        with np.load(samples) as rows:
            return cls(name, path, {key: (1, *rows[key].shape[1:]) for key in rows if key != "labels"})

    def with_top(self, top: Precision) -> Grouping:
        """The groups with another high precision."""
        return replace(self.grouping, top=top)

    def emitted(self, plan: PrecisionPlan, top: Precision = Precision.FP16) -> ir.Model:
        """The strongly typed graph of a plan."""
        tensors = {site.tensor for group in self.grouping.groups for site in group.inputs}
        ranges = Ranges({}, 1, {tensor: TensorRange(-4, 4, _AMAX) for tensor in tensors})
        return Emitter(self._graph, self.with_top(top), ranges).strong(plan)

    def compiled(self, graphs: Mapping[str, ir.Model], capability: int = ADA) -> dict[str, Compiled]:
        """Every graph compiled for `BATCH` samples."""
        shapes = {name: (BATCH, *shape[1:]) for name, shape in self._shapes.items()}
        return compiled({name: ir.to_proto(g).SerializeToString() for name, g in graphs.items()}, (capability,), shapes)


@dataclass(frozen=True)
class Share:
    """So many of so many."""

    count: int
    total: int

    def __str__(self) -> str:
        return f"{self.count} / {self.total}" if self.total else "-"


@dataclass(frozen=True)
class Comparison:
    """What is assumed of a plan, and what its program has.

    Attributes:
        anchors: Groups whose products are one kernel of their own, of all groups.
        precision: Groups that multiply in the planned format, of all.
        epilogues: Groups whose bias, residual Add and activation are in that kernel or in one behind each product, of
            those that have some.
        attention: Attentions that are one kernel, of all attention groups.
        norms: Normalizations whose quantizer is in their kernel, of those that a quantizer follows.
        kernels: Kernels of the program, and of the latency model: a group each, ops outside groups, conversions.
        conversions: Kernels that do nothing but quantize, dequantize or cast; and those of the latency model.
        loose: Kernels of the program without any node of a group, conversions aside; and of the latency model.
        differences: A line per group that is not as assumed.
    """

    anchors: Share
    precision: Share
    epilogues: Share
    attention: Share
    norms: Share
    kernels: Share
    conversions: Share
    loose: Share
    differences: tuple[str, ...]


def compare(grouping: Grouping, plan: PrecisionPlan, graph: ir.Model, kernels: tuple[Kernel, ...]) -> Comparison:
    """The plan as assumed against the program of its graph."""
    runs = _Runs(grouping, graph, kernels)
    verdicts = [_Verdict.of(runs, group, plan[group.id]) for group in grouping.groups]
    flow = Dataflow(grouping)
    reformats = [reformat for reformat in flow.reformats(flow.formats(plan)) if not reformat.fused]
    loose = sum(kernel.kind != "none" and kernel.name not in flow.groups for kernel in flow.kernels)
    attentions = [one for one in verdicts if one.group.op_type == "Attention"]
    following = [one for one in verdicts if one.followers]
    norms = list(runs.norms())
    return Comparison(
        anchors=Share(sum(one.anchors for one in verdicts), len(verdicts)),
        precision=Share(sum(one.precision for one in verdicts), len(verdicts)),
        epilogues=Share(sum(one.epilogue for one in following), len(following)),
        attention=Share(sum(one.anchors for one in attentions), len(attentions)),
        norms=Share(sum(norms), len(norms)),
        kernels=Share(len(kernels), len(grouping.groups) + loose + len(reformats)),
        conversions=Share(len(runs.conversions), len(reformats)),
        loose=Share(len(runs.loose), loose),
        differences=tuple(line for one in verdicts for line in one.differences()),
    )


class _Runs:
    """Which kernels run which nodes."""

    def __init__(self, grouping: Grouping, graph: ir.Model, kernels: tuple[Kernel, ...]) -> None:
        self.kernels, self._graph = kernels, graph
        self.of: dict[str, list[Kernel]] = defaultdict(list)
        for kernel in kernels:
            for node in kernel.nodes:
                self.of[node].append(kernel)
        self.anchors = {anchor: group.id for group in grouping.groups for anchor in anchors_of(group)}
        grouped = {node for group in grouping.groups for node in group.nodes}
        converting = QUANTIZE | DEQUANTIZE | {"Cast"}
        self._converts = {str(node.name) for node in graph.graph if node.op_type in converting}
        self.conversions = [k for k in kernels if k.nodes and self._converts.issuperset(k.nodes) and k.product is None]
        others = (kernel for kernel in kernels if grouped.isdisjoint(kernel.nodes) and kernel.product is None)
        self.loose = [kernel for kernel in others if kernel not in self.conversions]

    def norms(self) -> Iterator[bool]:
        """Whether its quantizer is in one kernel with it, for every normalization that a quantizer follows."""
        for node in self._graph.graph:
            if node.op_type in _NORMALIZATIONS:
                after = [str(user.name) for user, _ in node.outputs[0].uses() if user.op_type in QUANTIZE]
                if after:
                    yield any(not set(after).isdisjoint(kernel.nodes) for kernel in self.of[str(node.name)])


@dataclass(frozen=True)
class _Verdict:
    group: LayerGroup
    planned: Precision
    products: tuple[Kernel, ...]
    followers: tuple[Kernel, ...]
    alone: bool

    @classmethod
    def of(cls, runs: _Runs, group: LayerGroup, planned: Precision) -> _Verdict:
        anchors = anchors_of(group)
        products = _different(k for anchor in anchors for k in runs.of[anchor] if k.product is not None)
        theirs = {runs.anchors[node] for kernel in products for node in kernel.nodes if node in runs.anchors}
        behind = (k for node in group.nodes if node not in anchors for k in runs.of[node])
        alone = theirs == {group.id}
        return cls(group, planned, products, _different(behind), alone)

    @property
    def anchors(self) -> bool:
        fused = self.group.op_type != "Attention" or all(ATTENTION in kernel.name for kernel in self.products)
        return len(self.products) == 1 and self.alone and fused

    @property
    def precision(self) -> bool:
        formats = {realised for kernel in self.products for realised in computed_in(kernel)}
        return formats == {self.planned}

    @property
    def epilogue(self) -> bool:
        behind = [kernel for kernel in self.followers if kernel not in self.products]
        return len(behind) <= max(1, len(self.group.weights))

    def differences(self) -> Iterator[str]:
        """What is not as assumed, a line each."""
        names = Counter(kernel.product.kind for kernel in self.products if kernel.product is not None)
        if not self.anchors:
            found = ", ".join(f"{count} {kind}" for kind, count in names.items()) or "no kernel names it"
            shared = ", shared with other groups" if self.products and not self.alone else ""
            yield f"{self.group.op_type} {self.group.id}: {found}{shared}"
        if self.products and not self.precision:
            operands = " and ".join(sorted({" x ".join(kernel.operands) for kernel in self.products}))
            yield f"{self.group.op_type} {self.group.id}: planned {self.planned}, multiplies {operands}"
        if self.followers and not self.epilogue:
            yield f"{self.group.op_type} {self.group.id}: its epilogue is in {len(self.followers)} kernels"


def computed_in(kernel: Kernel) -> Iterator[Precision | None]:
    """The formats that a kernel multiplies, or the one of the weights that it widens first."""
    operands = {TYPES.get(operand) for operand in kernel.operands}
    widened = {WEIGHT_ONLY[read] for read in kernel.reads if read in WEIGHT_ONLY and kernel.parts}
    return iter(widened or operands)


def anchors_of(group: LayerGroup) -> tuple[str, ...]:
    """The nodes of a group that multiply."""
    return tuple(dict.fromkeys([*(weight.node for weight in group.weights), *_readers(group)]))


def _readers(group: LayerGroup) -> Iterator[str]:
    return (site.node for site in group.inputs if not group.weights)


def _different(kernels: Iterator[Kernel]) -> tuple[Kernel, ...]:
    return tuple(dict.fromkeys(kernels))
