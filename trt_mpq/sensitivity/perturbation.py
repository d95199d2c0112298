"""Perturbed copies of a network, and their loss on the samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from trt_mpq.graph_edit import constant_array, node_by_name
from trt_mpq.numerics import FloatArray
from trt_mpq.sensitivity.base import SensitivityInputs
from trt_mpq.types import LayerGroup

if TYPE_CHECKING:
    from trt_mpq.dataset import Batch
    from trt_mpq.runtime.base import Arrays, Session

NOISE_SCALE = "trt_mpq:noise_scale"
"""Graph input, a float32 scalar that multiplies every noise input."""


def weight_feed(group: LayerGroup) -> str:
    """Name of the graph input that `open_weights` adds for a group."""
    return f"{group.id}:weight"


def noise_feed(group: LayerGroup, read: int) -> str:
    """Name of the graph input that `add_noise` adds for a group's quantized input number `read`."""
    return f"{group.id}:noise_{read}"


def weight_of(graph: ir.Model, group: LayerGroup) -> FloatArray:
    """The group's weight as float32."""
    return constant_array(graph.graph.initializers[group.weight.name])


def open_weights(graph: ir.Model, groups: Iterable[LayerGroup]) -> ir.Model:
    """A copy of `graph` in which each group's anchor reads its weight from the graph input `weight_feed(group)`.

    Other readers of a shared weight keep the constant.
    """
    clone = graph.clone()
    for group in groups:
        weight = _add_input(clone, weight_feed(group), group.weight.shape)
        anchor = node_by_name(clone.graph, group.id)
        for index, value in enumerate(anchor.inputs):
            if value is not None and value.name == group.weight.name:
                anchor.replace_input_with(index, weight)
    return clone


def add_noise(graph: ir.Model, group: LayerGroup) -> ir.Model:
    """A copy of `graph` with open weight, whose group reads its quantized inputs plus ``noise * NOISE_SCALE``.

    The noise inputs are ``[n, elements per sample]``, in the memory layout of the tensor they are
    added to. Other readers of these tensors see no noise.
    """
    clone = open_weights(graph, [group])
    scale = _add_input(clone, NOISE_SCALE, ())
    for number, read in enumerate(group.inputs):
        node = node_by_name(clone.graph, read.node)
        clean = node.inputs[read.index]
        assert clean is not None, f"{read.node} has no input {read.index}"
        noise = _add_input(clone, noise_feed(group, number), ("samples", f"elements_{number}"))
        shape = ir.node("Shape", [clean])
        scaled = ir.node("Mul", [noise, scale])
        shaped = ir.node("Reshape", [scaled.outputs[0], shape.outputs[0]])
        noisy = ir.node("Add", [clean, shaped.outputs[0]])
        clone.graph.insert_before(node, [shape, scaled, shaped, noisy])
        node.replace_input_with(read.index, noisy.outputs[0])
    return clone


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
