"""Perturbed copies of a network, and their loss on the samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes

from trt_mpq.dataset.cached import CachedIterable
from trt_mpq.graph.edit import constant_array, node_by_name
from trt_mpq.runtime.base import size_of
from trt_mpq.sensitivity.base import SensitivityInputs
from trt_mpq.types import LayerGroup
from trt_mpq.workers.threads import side_by_side

if TYPE_CHECKING:
    from trt_mpq.dataset.chunks import Chunk
    from trt_mpq.runtime.base import Arrays
    from trt_mpq.sensitivity.prefix import Rest


def open_weights(graph: ir.Model, groups: Iterable[LayerGroup]) -> tuple[ir.Model, dict[str, Arrays]]:
    """A copy of `graph` in which each anchor of the groups reads its weight from a graph input of its own.

    Other readers of a shared weight keep the constant.

    Returns:
        The copy, and for each group the weights as they are, float32, by the names of their inputs.
    """
    clone = graph.clone()
    weights: dict[str, Arrays] = {group.id: {} for group in groups}
    for group in groups:
        for weight in group.weights:
            name = f"{weight.node}:weight"
            weights[group.id][name] = constant_array(graph.graph.initializers[weight.name])
            fed, anchor = _add_input(clone, name, weight.shape), node_by_name(clone.graph, weight.node)
            for index, value in enumerate(anchor.inputs):
                if value is not None and value.name == weight.name:
                    anchor.replace_input_with(index, fed)
    return clone, weights


def add_noise(graph: ir.Model, group: LayerGroup) -> tuple[ir.Model, Arrays, dict[str, str]]:
    """A copy of `graph` with open weights, whose group reads its quantized inputs with noise added.

    The noise comes from graph inputs ``[n, elements per sample]``, in the memory layout of the tensor it is added to.
    A tensor that the group reads several times has one noise; its other readers see none.

    Returns:
        The copy, the group's weights by the names of their inputs, and the name of every tensor's noise input.
    """
    clone, weights = open_weights(graph, [group])
    inputs = {read.tensor: f"{read.tensor}:noise" for read in group.inputs}
    for number, (tensor, name) in enumerate(inputs.items()):
        reads = [(node_by_name(clone.graph, r.node), r.index) for r in group.inputs if r.tensor == tensor]
        clean = reads[0][0].inputs[reads[0][1]]
        assert clean is not None, f"{reads[0][0].name} has no input {reads[0][1]}"
        noise = _add_input(clone, name, ("samples", f"elements_{number}"))
        shape = ir.node("Shape", [clean])
        shaped = ir.node("Reshape", [noise, shape.outputs[0]])
        noisy = ir.node("Add", [clean, shaped.outputs[0]])
        clone.graph.insert_before(_first(clone.graph, reads), [shape, shaped, noisy])
        for node, index in reads:
            node.replace_input_with(index, noisy.outputs[0])
    return clone, weights[group.id], inputs


def apart(graph: ir.Model, groups: Iterable[LayerGroup]) -> tuple[ir.Model, dict[str, str]]:
    """A copy of `graph` in which groups do not see each other.

    What a group reads from other nodes comes from graph inputs. The outputs are what the groups write; what no group
    needs is gone.

    Returns:
        The copy, and the tensors that it has to be given, to the names of their inputs.
    """
    clone = graph.clone()
    nodes = {str(node.name): node for node in clone.graph}
    values = {str(value.name): value for node in clone.graph for value in node.outputs}
    given: dict[str, ir.Value] = {}
    writes: dict[str, ir.Value] = {}
    for group in groups:
        own = {nodes[name] for name in group.nodes}
        for node, index, value in _reads(own):
            name = str(value.name)
            if name not in given:
                given[name] = ir.val(f"{name}:given", value.dtype or ir.DataType.FLOAT, value.shape)
            node.replace_input_with(index, given[name])
        writes.update((name, values[name]) for name in group.writes)
    clone.graph.inputs.extend(given.values())
    clone.graph.outputs.clear()
    clone.graph.outputs.extend(writes.values())
    passes.RemoveUnusedNodesPass()(clone)
    return clone, {tensor: str(value.name) for tensor, value in given.items()}


def _reads(nodes: set[ir.Node]) -> Iterator[tuple[ir.Node, int, ir.Value]]:
    """Node, input number and tensor of everything that `nodes` read from nodes outside."""
    for node in nodes:
        for index, value in enumerate(node.inputs):
            if value is not None and value.producer() not in (None, *nodes):
                yield node, index, value


def _first(graph: ir.Graph, reads: Sequence[tuple[ir.Node, int]]) -> ir.Node:
    """The reader that stands first in the network."""
    readers = {node for node, _ in reads}
    return next(node for node in graph if node in readers)


@dataclass(frozen=True)
class Case:
    """Samples, the unperturbed network's outputs for them and their summed loss.

    Attributes:
        chunk: The samples.
        reference: Outputs ``[n, ...]``.
        loss: Summed over the samples.
        elements: Elements per row of every tensor that some group may quantize.
    """

    chunk: Chunk
    reference: Arrays
    loss: float
    elements: Mapping[str, int]


class SampleLoss:
    """The loss of a network and of its perturbed copies, always on the same samples.

    Every perturbation is judged on all samples. The samples and the network's outputs stay in memory if they are
    small; if not, because they are a language model's say, they are made again for every perturbation.

    Args:
        inputs: Network, samples and loss.
        block: No batch reaches across a multiple of so many samples, see `SensitivityInputs.chunks`.
        kept_bytes: Samples and outputs up to this size stay in memory, see `CachedIterable`.

    Attributes:
        cases: The samples in their batches.
        samples: How many samples there are.
    """

    def __init__(self, inputs: SensitivityInputs, block: int | None = None, kept_bytes: int | None = None) -> None:
        self.samples = inputs.sample_count
        self._inputs, self._block = inputs, block
        self._tensors = tuple(dict.fromkeys(read.tensor for group in inputs.groups for read in group.inputs))
        self._session = inputs.runtime.load(_with_sizes(inputs.network.graph, self._tensors))
        self.cases = CachedIterable(self._cases, lambda case: size_of(case.chunk.feeds | case.reference), kept_bytes)

    @property
    def chunks(self) -> Iterable[Chunk]:
        """The samples alone, whenever they are iterated over."""
        return _Chunks(self.cases)

    def growth(self, case: Case, outputs: Arrays) -> float:
        """Summed loss of a perturbed copy with these outputs for `case`, minus that of the unperturbed network."""
        return self._sum(case.chunk, outputs, case.reference) - case.loss

    def mean_growth(self, copy: Rest) -> float:
        """Mean loss over all samples of a perturbed copy, minus that of the unperturbed network."""

        def growth(numbered: tuple[int, Case]) -> float:
            number, case = numbered
            return self.growth(case, copy.run(number, case.chunk))

        return sum(side_by_side(growth, enumerate(self.cases), copy.ways)) / self.samples

    def _cases(self) -> Iterator[Case]:
        return map(self._case, self._inputs.chunks(self._block))

    def _case(self, chunk: Chunk) -> Case:
        outputs = chunk.run(self._session)
        elements = {tensor: int(outputs.pop(_size_of(tensor))) // chunk.rows for tensor in self._tensors}
        return Case(chunk, outputs, self._sum(chunk, outputs, outputs), elements)

    def _sum(self, chunk: Chunk, outputs: Arrays, reference: Arrays) -> float:
        return float(np.sum(self._inputs.loss.per_sample(outputs, chunk.batch.labels, reference)))


@dataclass(frozen=True)
class _Chunks:
    cases: Iterable[Case]

    def __iter__(self) -> Iterator[Chunk]:
        return (case.chunk for case in self.cases)


def _add_input(graph: ir.Model, name: str, shape: tuple[int | str, ...]) -> ir.Value:
    value = ir.val(name, ir.DataType.FLOAT, shape)
    graph.graph.inputs.append(value)
    return value


def _with_sizes(graph: ir.Model, tensors: Iterable[str]) -> ir.Model:
    """A copy of `graph` that also gives the element counts of `tensors`, as outputs called `_size_of`."""
    clone = graph.clone()
    values = {value.name: value for value in clone.graph.inputs}
    values.update((value.name, value) for node in clone.graph for value in node.outputs)
    for tensor in tensors:
        count = ir.node("Size", [values[tensor]])
        count.outputs[0].name = _size_of(tensor)
        clone.graph.append(count)
        clone.graph.outputs.append(count.outputs[0])
    return clone


def _size_of(tensor: str) -> str:
    return f"trt_mpq:size:{tensor}"
