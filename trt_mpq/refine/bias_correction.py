"""Empirical bias correction: give every quantized group the mean output it had in FP32.

Rounding weights and activations shifts the mean of a layer's output; the shift is a constant per
channel and can be taken out of the bias (Nagel et al. 2019, "Data-Free Quantization Through Weight
Equalization and Bias Correction", section 4.2, the empirical variant). Layers are corrected in
network order, each seeing the already corrected output of those before it: the FP32 and the
quantized network run side by side in one graph, and the correction of a layer is applied inside that
graph before the next one reads it, so that one pass over the data corrects all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir

from trt_mpq.dataset import Samples
from trt_mpq.dataset.chunks import chunks_by_length
from trt_mpq.dataset.spread import Spread, here, outputs_as_given, with_results
from trt_mpq.emit import BiasCorrections, Network, Refinements
from trt_mpq.emit.bias import bias_input, takes_bias
from trt_mpq.graph.edit import insert_node, reduced
from trt_mpq.runtime.base import Runtime
from trt_mpq.types import Grouping, Precision, PrecisionPlan, Progress

_QUANTIZED = "quantized/"
_MOST_SAMPLES = 64
_CHUNK_ELEMENTS = 16 << 20
"""Largest tensor, in elements, that a chunk may hold: bounds the memory of the doubled network."""


def correct_biases(
    network: Network,
    plan: PrecisionPlan,
    refinements: Refinements,
    samples: Samples,
    runtime: Runtime,
    *,
    batch: int = _MOST_SAMPLES,
    progress: Progress | None = None,
    spread: Spread | None = None,
) -> BiasCorrections:
    """Measure what to add to the bias of each group that `plan` quantizes, in the precision it has there.

    Args:
        network: Whose biases.
        plan: The plan, uniform or mixed, under which they are measured.
        refinements: What else is refined in it: weights are rounded before biases are corrected.
        samples: Calibration data.
        runtime: Where the doubled graph runs.
        batch: Samples per run, at most; bounded further by the largest tensor. It changes speed and memory, not the
            result but for rounding.
        progress: Told how many samples are done.
        spread: Has the doubled graph run by others, to the same result; None for here.

    Returns:
        (anchor, precision) to a float32 array of shape ``(output channels,)``. Anchors that have nowhere to put a
        bias (a MatMul without one) are absent.
    """
    sites = _sites(network, plan)
    if not sites:
        return {}
    reference = network.emitter(refinements).reference(plan)
    run = partial(spread or here(runtime), _doubled(network.graph, reference, sites), (), outputs_as_given)
    sums = {site.anchor: np.zeros(0) for site in sites}
    portions = chunks_by_length(samples, _chunk_size(network.grouping, min(batch, _MOST_SAMPLES)))
    with with_results(portions, run) as results:
        for portion, values in results:
            for name, total in sums.items():
                shift = values[_shift_name(name)].astype(np.float64).ravel() * portion.batch.size
                sums[name] = total + shift if total.size else shift
            if progress is not None:
                progress(portion.end, samples.count)
    return {(site.anchor, site.precision): (sums[site.anchor] / samples.count).astype(np.float32) for site in sites}


@dataclass(frozen=True)
class _Site:
    """An anchor, its precision, the node whose output includes its bias (itself, or an Add), its rank, its channels."""

    anchor: str
    precision: Precision
    node: str
    rank: int
    axis: int


def _sites(network: Network, plan: PrecisionPlan) -> list[_Site]:
    """Where to correct: every anchor that `plan` quantizes and that takes a bias, in network order."""
    graph, precisions = network.graph.graph, plan.as_dict()
    groups = [group for group in network.grouping.groups if precisions[group.id].quantized]
    return [
        _Site(
            weight.node,
            precisions[group.id],
            str(bias_input(graph, group, weight)[0].name),
            weight.rank,
            weight.channel_axis,
        )
        for group in groups
        for weight in group.weights
        if takes_bias(graph, weight)
    ]


def _chunk_size(grouping: Grouping, most: int) -> int:
    largest = max((max(g.input_elements, g.output_elements) for g in grouping.groups), default=1)
    return max(1, min(most, _CHUNK_ELEMENTS // max(largest, 1)))


def _shift_name(anchor: str) -> str:
    return f"shift/{anchor}"


def _doubled(original: ir.Model, quantized: ir.Model, sites: list[_Site]) -> ir.Model:
    """One graph with both networks; its outputs are the mean shifts, already applied on the quantized side."""
    model = original.clone()
    graph = model.graph
    exact = {node.name: node for node in graph}
    _move_into(graph, quantized.graph)
    rounded = {node.name: node for node in graph}
    graph.outputs.clear()
    for site in sites:
        shift = _compensate(graph, exact[site.node].outputs[0], rounded[_QUANTIZED + site.node], site)
        graph.outputs.append(shift)
    graph.sort()
    return model


def _move_into(graph: ir.Graph, other: ir.Graph) -> None:
    """Move all nodes of `other` into `graph`, names prefixed, reading the inputs of `graph`."""
    inputs = {value.name: value for value in graph.inputs}
    for value in list(other.inputs):
        value.replace_all_uses_with(inputs[value.name])
    other.outputs.clear()  # which may be initializers
    for name, value in list(other.initializers.items()):
        del other.initializers[name]
        value.name = _QUANTIZED + name
        graph.register_initializer(value)
    nodes = list(other)
    other.remove(nodes)
    for node in nodes:
        node.name = f"{_QUANTIZED}{node.name}"
        for value in node.outputs:
            value.name = f"{_QUANTIZED}{value.name}"
            value.shape = None if value.shape is None else _without_names(value.shape)
    graph.extend(nodes)


def _without_names(shape: ir.Shape) -> ir.Shape:
    """A name would say that a size is equal in both networks, which the number of what is selected is not."""
    return ir.Shape([size if isinstance(size, int) else None for size in shape])


def _compensate(graph: ir.Graph, exact: ir.Value, node: ir.Node, site: _Site) -> ir.Value:
    rounded = node.outputs[0]
    users = list(rounded.uses())
    others = [axis for axis in range(site.rank) if axis != site.axis]
    name = _shift_name(site.anchor)
    difference = insert_node(graph, "Sub", [exact, rounded], f"{name}/difference", after=node)
    shift = reduced(graph, "ReduceMean", difference, others, name)
    corrected = insert_node(graph, "Add", [rounded, shift], f"{name}/corrected", after=shift.producer())
    for user, index in users:
        user.replace_input_with(index, corrected)
    return shift
