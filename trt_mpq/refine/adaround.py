"""Learned rounding: weights rounded up or down so that every layer writes what it wrote in FP32.

AdaRound (Nagel et al. 2020, section 3), layer by layer in network order. A layer reads what it reads in the quantized
network, the layers before it already rounded, and is to write what it writes in FP32, behind the nodes fused to it
(the paper's asymmetric reconstruction with the activation function, equation 25). FP8 works like the integers: up and
down are the neighbouring E4M3 values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
import onnx_ir as ir

from trt_mpq.dataset import Samples
from trt_mpq.dataset.chunks import Chunk, chunks_by_length
from trt_mpq.emit import Emitter, Network, Roundings
from trt_mpq.graph.edit import constant_array, node_by_name
from trt_mpq.numerics import BoolArray
from trt_mpq.runtime.base import Runtime, Session, with_outputs
from trt_mpq.runtime.torch_autograd import TorchGraph, import_torch
from trt_mpq.runtime.torch_rounding import Choices, Portion, learn_choices
from trt_mpq.types import LayerGroup, Precision, PrecisionPlan, Progress, Weight

_KEPT_ELEMENTS = 64 << 20
"""Activations kept to learn one layer from: 256 MiB. Where that does not hold all samples, the first ones."""
_STEP_ELEMENTS = 1 << 19
"""Activations that one step reads and writes, at most; bounds what autograd keeps, and the cost of a step."""
_STEP_SAMPLES = 32
"""Samples of one step, at most (the authors' batch)."""


def learn_rounding(
    network: Network,
    plan: PrecisionPlan,
    samples: Samples,
    runtime: Runtime,
    *,
    steps: int,
    seed: int,
    batch: int = _STEP_SAMPLES,
    progress: Progress | None = None,
) -> Roundings:
    """Learn how to round the weights that `plan` quantizes.

    Args:
        network: Whose weights.
        plan: Which of them, and to what.
        samples: Calibration data.
        runtime: Where the network runs, exact and quantized.
        steps: Steps of gradient descent per weight.
        seed: Draws the order of the samples.
        batch: Samples per run of the network, at most. It changes speed and memory, not the result but for rounding.
        progress: Told how many layers are done.

    Returns:
        (weight, precision) to which elements are rounded up. Weights for which nothing was gained are absent, and
        so are those that several operators read: what is best for one may be bad for another.

    Raises:
        MissingDependencyError: torch is not installed.
        UnsupportedByTorch: A layer has an operator without a torch formula.
    """
    import_torch("learned rounding (--adaround)")  # before any work
    emitter = network.emitter()
    quantized = emitter.reference(plan)
    layers = _layers(network, quantized, plan)
    roundings: dict[tuple[str, Precision], BoolArray] = {}
    for done, layer in enumerate(layers):
        if progress is not None:
            progress(done, len(layers))
        choices = _choices(network, emitter, layer)
        function = layer.in_torch(network.graph)
        portions = layer.portions(network.graph, quantized, samples, runtime, batch)
        up = learn_choices(function, choices, portions, steps, np.random.default_rng((seed, done)))
        if up is not None:
            roundings[layer.weight.name, layer.precision] = up
            _replace_weight(quantized, layer.weight, np.where(up, choices.high, choices.low))
    if progress is not None:
        progress(len(layers), len(layers))
    return roundings


@dataclass(frozen=True)
class _Layer:
    """An anchor with what is fused behind it.

    Attributes:
        weight: What is to be rounded.
        precision: To what.
        nodes: Its nodes in the FP32 graph.
        reads: Tensors that come from outside, by their names in the FP32 graph, to their names in the quantized one.
        elements: Activations that it reads and writes for one sample.
    """

    weight: Weight
    precision: Precision
    nodes: tuple[ir.Node, ...]
    reads: dict[str, str]
    elements: int

    @property
    def output(self) -> str:
        """What the last node writes."""
        return str(self.nodes[-1].outputs[0].name)

    def in_torch(self, graph: ir.Model) -> TorchGraph:
        """The layer as a function of `reads` and its weight, which it names as the FP32 graph does."""
        return TorchGraph(graph, self.nodes, (self.output,))

    def portions(
        self, exact: ir.Model, quantized: ir.Model, samples: Samples, runtime: Runtime, batch: int
    ) -> list[Portion]:
        """What it reads in the quantized network and writes in FP32, for as many samples as are kept."""
        written = runtime.load(with_outputs(exact, [self.output]))
        read = runtime.load(with_outputs(quantized, list(dict.fromkeys(self.reads.values()))))
        size = max(1, min(_STEP_SAMPLES, _STEP_ELEMENTS // self.elements))
        portions: list[Portion] = []
        kept = 0
        for chunk in chunks_by_length(samples, min(size, batch)):
            portion = self._portion(chunk, written, read)
            kept += portion.target.size + sum(value.size for value in portion.feeds.values())
            if portions and kept > _KEPT_ELEMENTS:
                break
            portions.append(portion)
        return _joined(portions, size // min(size, batch))

    def _portion(self, chunk: Chunk, exact: Session, rounded: Session) -> Portion:
        read, written = rounded.run(chunk.feeds), exact.run(chunk.feeds)
        feeds = {name: chunk.cut(read[own]) for name, own in self.reads.items()}
        return Portion(feeds, chunk.cut(written[self.output]))


def _joined(portions: list[Portion], count: int) -> list[Portion]:
    """Every `count` portions of equal rows as one, in order."""
    alike = (list(run) for _, run in groupby(portions, key=lambda portion: portion.target.shape[1:]))
    steps = [run[start : start + count] for run in alike for start in range(0, len(run), count)]
    return [step[0] if len(step) == 1 else _concatenated(step) for step in steps]


def _concatenated(step: list[Portion]) -> Portion:
    feeds = {name: np.concatenate([portion.feeds[name] for portion in step]) for name in step[0].feeds}
    return Portion(feeds, np.concatenate([portion.target for portion in step]))


def _layers(network: Network, quantized: ir.Model, plan: PrecisionPlan) -> list[_Layer]:
    """The layers whose weights `plan` quantizes and nobody else reads, in network order."""
    nodes = {str(node.name): node for node in network.graph.graph}
    readers = Counter(weight.name for group in network.grouping.groups for weight in group.weights)
    precisions = plan.as_dict()
    return [
        _Layer(weight, precisions[group.id], own, _reads(own, quantized), group.input_elements + group.output_elements)
        for group in network.grouping.groups
        if precisions[group.id].quantized
        for weight, own in _chains(group, nodes)
        if readers[weight.name] == 1
    ]


def _chains(group: LayerGroup, nodes: dict[str, ir.Node]) -> Iterator[tuple[Weight, tuple[ir.Node, ...]]]:
    """Every anchor's weight, and the anchor with the nodes that follow it in the group."""
    starts = [group.nodes.index(weight.node) for weight in group.weights]
    for weight, (start, end) in zip(group.weights, pairwise([*starts, len(group.nodes)]), strict=True):
        yield weight, tuple(nodes[name] for name in group.nodes[start:end])


def _reads(nodes: tuple[ir.Node, ...], quantized: ir.Model) -> dict[str, str]:
    """Tensors that `nodes` read and do not write, constants aside, and what stands for them in `quantized`."""
    written = {value for node in nodes for value in node.outputs}
    reads = {}
    for node in nodes:
        twin = node_by_name(quantized.graph, str(node.name))
        for value, own in zip(node.inputs, twin.inputs, strict=False):
            if value is not None and own is not None and value.const_value is None and value not in written:
                reads[str(value.name)] = str(own.name)
    return reads


def _choices(network: Network, emitter: Emitter, layer: _Layer) -> Choices:
    low, high = emitter.weight_choices(layer.weight, layer.precision)
    exact = constant_array(network.graph.graph.initializers[layer.weight.name])
    return Choices(layer.weight.name, exact, low, high)


def _replace_weight(quantized: ir.Model, weight: Weight, content: np.ndarray) -> None:
    constant = node_by_name(quantized.graph, weight.node).inputs[weight.index]
    assert constant is not None
    constant.const_value = ir.tensor(content, name=constant.name)
