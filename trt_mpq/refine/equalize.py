"""Cross-layer equalization: make the channels between two layers equally large.

If nothing but a positively homogeneous activation (Relu, LeakyRelu, none) stands between two layers,
dividing channel i of the first by s_i and multiplying it in the second leaves the network as it is in
FP32, but evens out the ranges that per-tensor activation quantizers have to cover (Nagel et al. 2019,
"Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1, equation 11).
A Clip (ReLU6) is not homogeneous, so chains through one are left alone.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from trt_mpq.graph.edit import constant_array
from trt_mpq.graph.operators import HOMOGENEOUS
from trt_mpq.numerics import FloatArray, channel_amax
from trt_mpq.types import Grouping, LayerGroup

_SWEEPS = 40
_TOLERANCE = 1e-3
_LARGEST_STEP = 1e4
"""Bound on one channel's factor: a nearly dead channel must not be blown up without limit."""


_Pair = tuple[LayerGroup, LayerGroup]
"""Two groups whose shared channels can be rescaled against each other."""


def equalize(graph: ir.Model, grouping: Grouping) -> tuple[ir.Model, tuple[tuple[str, str], ...]]:
    """Equalize all pairs of `graph` until their factors settle.

    Returns:
        A new graph that computes the same in FP32 up to rounding, and the ids of the pairs.
    """
    model = graph.clone()
    pairs = _equalizable_pairs(model.graph, grouping)
    equalized = [group.weight for pair in pairs for group in pair]
    weights = {w.name: constant_array(model.graph.initializers[w.name]).copy() for w in equalized}
    names = {weight.bias for weight in equalized if weight.bias is not None}
    biases = {name: constant_array(model.graph.initializers[name]).copy() for name in names}
    for _ in range(_SWEEPS):
        if max((_equalize_pair(pair, weights, biases) for pair in pairs), default=0.0) < _TOLERANCE:
            break
    for name, content in {**weights, **biases}.items():
        model.graph.initializers[name].const_value = ir.tensor(content, name=name)
    return model, tuple((first.id, second.id) for first, second in pairs)


def _equalizable_pairs(graph: ir.Graph, grouping: Grouping) -> tuple[_Pair, ...]:
    """All pairs of groups whose only link is a homogeneous activation and whose weights and biases are their own."""
    nodes = {node.name: node for node in graph}
    readers = {site.tensor: group for group in grouping.groups for site in group.inputs if site.role == "input"}
    pairs = []
    for first in (group for group in grouping.groups if group.op_type == "Conv"):
        second = readers.get(first.output)
        if second is not None and second.op_type == "Conv" and _linked(first, second, graph, nodes):
            pairs.append((first, second))
    return tuple(pairs)


def _linked(first: LayerGroup, second: LayerGroup, graph: ir.Graph, nodes: dict[str | None, ir.Node]) -> bool:
    followers = [nodes[name] for name in first.nodes[1:]]
    output = nodes[first.nodes[-1]].outputs[0]
    own = all(
        len(graph.initializers[name].uses()) == 1
        for name in (first.weight.name, first.weight.bias, second.weight.name)
        if name is not None
    )
    return (
        own
        and len(output.uses()) == 1
        and not output.is_graph_output()
        and not any(site.role == "residual" for site in first.inputs)
        and all(node.op_type in HOMOGENEOUS or _adds(node, first.weight.bias) for node in followers)
        and (_group_attribute(nodes[second.id]) == 1 or _depthwise(first.weight.shape, second.weight.shape))
        and nodes[second.id].inputs[0] is output
    )


def _adds(node: ir.Node, bias: str | None) -> bool:
    return node.op_type == "Add" and any(value is not None and value.name == bias for value in node.inputs)


def _group_attribute(node: ir.Node) -> int:
    return node.attributes.get_int("group", 1)


def _depthwise(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    """Whether the second layer has one filter for each output channel of the first."""
    return second[1] == 1 and second[0] == first[0]


def _equalize_pair(pair: _Pair, weights: dict[str, FloatArray], biases: dict[str, FloatArray]) -> float:
    first, second = (weights[group.weight.name] for group in pair)
    depthwise = _depthwise(first.shape, second.shape)
    out_range, in_range = channel_amax(first, 0), channel_amax(second, 0 if depthwise else 1)
    factor = _factors(out_range, in_range)
    first /= _columns(factor, first.ndim, 0)
    second *= _columns(factor, second.ndim, 0 if depthwise else 1)
    if (name := pair[0].weight.bias) is not None:
        bias = biases[name]
        bias /= factor.reshape(bias.shape)
    return float(np.abs(np.log(factor)).max())


def _factors(out_range: FloatArray, in_range: FloatArray) -> FloatArray:
    """s_i = sqrt(r1_i r2_i) / r2_i, so that both ranges become their geometric mean; 1 for a dead channel."""
    alive = (out_range > 0) & (in_range > 0)
    factor = np.sqrt(np.where(alive, out_range, 1.0) / np.where(alive, in_range, 1.0))
    return np.clip(factor, 1 / _LARGEST_STEP, _LARGEST_STEP).astype(np.float32)


def _columns(factor: FloatArray, ndim: int, axis: int) -> FloatArray:
    shape = [1] * ndim
    shape[axis] = -1
    return factor.reshape(shape)
