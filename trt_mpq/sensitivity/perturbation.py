"""Perturbed copies of a network, and their loss on the samples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from trt_mpq.graph_edit import constant_array, node_by_name
from trt_mpq.numerics import FloatArray
from trt_mpq.sensitivity.base import Feeds, SensitivityInputs
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
        noise = _add_input(clone, noise_feed(group, number), ("samples", "elements"))
        shape = ir.node("Shape", [clean])
        scaled = ir.node("Mul", [noise, scale])
        shaped = ir.node("Reshape", [scaled.outputs[0], shape.outputs[0]])
        noisy = ir.node("Add", [clean, shaped.outputs[0]])
        clone.graph.insert_before(node, [shape, scaled, shaped, noisy])
        node.replace_input_with(read.index, noisy.outputs[0])
    return clone


class SampleLoss:
    """Mean loss of a network and of its perturbed copies, always on the same samples.

    Holds the samples and the FP32 outputs in memory: every perturbation is judged on all of them.

    Attributes:
        baseline: Mean loss of the FP32 network.
        samples: How many samples the means are over.
    """

    def __init__(self, inputs: SensitivityInputs) -> None:
        self._inputs = inputs
        session = inputs.runtime.load(inputs.graph)
        self._cases = tuple((batch, inputs.run(session, batch)) for batch in inputs.batches())
        self.samples = sum(batch.size for batch, _ in self._cases)
        self.baseline = sum(self._sum(batch, outputs, outputs) for batch, outputs in self._cases) / self.samples

    def mean(self, session: Session, feeds: Feeds) -> float:
        """Mean loss of the copy loaded in `session`; `feeds` gives the additional inputs of a batch."""
        total = 0.0
        for batch, reference in self._cases:
            total += self._sum(batch, self._inputs.run(session, batch, feeds), reference)
        return total / self.samples

    def elements(self) -> dict[str, int]:
        """Elements per sample of every tensor that some group quantizes, seen on the first batch."""
        batch = self._inputs.fill(self._cases[0][0])
        tensors = dict.fromkeys(read.tensor for group in self._inputs.grouping.groups for read in group.inputs)
        sizes = self._inputs.runtime.load(_sizes(self._inputs.graph, tensors)).run(batch.feeds)
        return {tensor: int(size) // batch.size for tensor, size in zip(tensors, sizes.values(), strict=True)}

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
