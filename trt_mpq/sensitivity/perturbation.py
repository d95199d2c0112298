"""Perturbed copies of a network, and their loss on the samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from trt_mpq.graph_edit import constant_array, node_by_name
from trt_mpq.numerics import FloatArray
from trt_mpq.sensitivity.base import SensitivityInputs
from trt_mpq.types import LayerGroup, Weight

if TYPE_CHECKING:
    from trt_mpq.dataset import Batch
    from trt_mpq.runtime.base import Arrays, Session

NOISE_SCALE = "trt_mpq:noise_scale"
"""Graph input, a float32 scalar that multiplies every noise input."""


def weight_feed(weight: Weight) -> str:
    """Name of the graph input that `open_weights` adds for a weight."""
    return f"{weight.node}:weight"


def noise_feed(group: LayerGroup, number: int) -> str:
    """Name of the graph input that `add_noise` adds for tensor `number` of `quantized_tensors`."""
    return f"{group.id}:noise_{number}"


def quantized_tensors(group: LayerGroup) -> tuple[str, ...]:
    """The activations a group quantizes, each once: its reads of one tensor share a quantizer."""
    return tuple(dict.fromkeys(read.tensor for read in group.inputs))


def weight_of(graph: ir.Model, weight: Weight) -> FloatArray:
    """The weight as float32."""
    return constant_array(graph.graph.initializers[weight.name])


def open_weights(graph: ir.Model, groups: Iterable[LayerGroup]) -> ir.Model:
    """A copy of `graph` in which each anchor of the groups reads its weight from the graph input `weight_feed`.

    Other readers of a shared weight keep the constant.
    """
    clone = graph.clone()
    for weight in (weight for group in groups for weight in group.weights):
        fed = _add_input(clone, weight_feed(weight), weight.shape)
        anchor = node_by_name(clone.graph, weight.node)
        for index, value in enumerate(anchor.inputs):
            if value is not None and value.name == weight.name:
                anchor.replace_input_with(index, fed)
    return clone


def add_noise(graph: ir.Model, group: LayerGroup) -> ir.Model:
    """A copy of `graph` with open weights, whose group reads its quantized inputs plus ``noise * NOISE_SCALE``.

    The noise inputs are ``[n, elements per sample]``, in the memory layout of the tensor they are
    added to. Other readers of these tensors see no noise.
    """
    clone = open_weights(graph, [group])
    scale = _add_input(clone, NOISE_SCALE, ())
    for number, tensor in enumerate(quantized_tensors(group)):
        reads = [(node_by_name(clone.graph, r.node), r.index) for r in group.inputs if r.tensor == tensor]
        clean = reads[0][0].inputs[reads[0][1]]
        assert clean is not None, f"{reads[0][0].name} has no input {reads[0][1]}"
        noise = _add_input(clone, noise_feed(group, number), ("samples", f"elements_{number}"))
        shape = ir.node("Shape", [clean])
        scaled = ir.node("Mul", [noise, scale])
        shaped = ir.node("Reshape", [scaled.outputs[0], shape.outputs[0]])
        noisy = ir.node("Add", [clean, shaped.outputs[0]])
        clone.graph.insert_before(_first(clone.graph, reads), [shape, scaled, shaped, noisy])
        for node, index in reads:
            node.replace_input_with(index, noisy.outputs[0])
    return clone


def _first(graph: ir.Graph, reads: Sequence[tuple[ir.Node, int]]) -> ir.Node:
    """The reader that stands first in the network."""
    readers = {node for node, _ in reads}
    return next(node for node in graph if node in readers)


@dataclass(frozen=True)
class Case:
    """A batch, the FP32 network's outputs for it and their summed loss."""

    batch: Batch
    reference: Arrays
    loss: float


class SampleLoss:
    """The loss of a network and of its perturbed copies, always on the same samples.

    Holds the samples and the FP32 outputs in memory: every perturbation is judged on all of them.

    Args:
        inputs: Network, samples and loss.
        block: No batch reaches across a multiple of so many samples.

    Attributes:
        cases: The batches.
        samples: How many samples they hold.
    """

    def __init__(self, inputs: SensitivityInputs, block: int) -> None:
        self._inputs = inputs
        session = inputs.runtime.load(inputs.graph)
        self.cases = tuple(self._case(session, batch) for batch in inputs.batches(block))
        self.samples = sum(case.batch.size for case in self.cases)

    def growth(self, session: Session, case: Case, feeds: Arrays) -> float:
        """Summed loss of the copy loaded in `session`, minus that of the FP32 network.

        Args:
            session: A perturbed copy.
            case: The batch to run.
            feeds: The copy's additional inputs.
        """
        outputs = self._inputs.run(session, case.batch, feeds)
        return self._sum(case.batch, outputs, case.reference) - case.loss

    def elements(self) -> dict[str, int]:
        """Elements per sample of every tensor that some group may quantize, seen on the first batch."""
        batch = self._inputs.fill(self.cases[0].batch)
        tensors = dict.fromkeys(read.tensor for group in self._inputs.groups for read in group.inputs)
        sizes = self._inputs.runtime.load(_sizes(self._inputs.graph, tensors)).run(batch.feeds)
        return {tensor: int(size) // batch.size for tensor, size in zip(tensors, sizes.values(), strict=True)}

    def _case(self, session: Session, batch: Batch) -> Case:
        outputs = self._inputs.run(session, batch)
        return Case(batch, outputs, self._sum(batch, outputs, outputs))

    def _sum(self, batch: Batch, outputs: Arrays, reference: Arrays) -> float:
        return float(np.sum(self._inputs.loss.per_sample(outputs, batch.labels, reference)))


def _add_input(graph: ir.Model, name: str, shape: tuple[int | str, ...]) -> ir.Value:
    value = ir.val(name, ir.DataType.FLOAT, shape)
    graph.graph.inputs.append(value)
    return value


def _sizes(graph: ir.Model, tensors: Iterable[str]) -> ir.Model:
    """A copy of `graph` whose outputs are the element counts of `tensors`."""
    clone = graph.clone()
    values = {value.name: value for value in clone.graph.inputs}
    values.update((value.name, value) for node in clone.graph for value in node.outputs)
    counts = [ir.node("Size", [values[name]]) for name in tensors]
    clone.graph.extend(counts)
    clone.graph.outputs.clear()
    clone.graph.outputs.extend(node.outputs[0] for node in counts)
    return clone
