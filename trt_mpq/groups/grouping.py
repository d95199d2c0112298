"""The grouping of a model: every node is in a group, loose, or a shape computation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

import onnx_ir as ir

from trt_mpq.groups.anchors import Anchor, anchor_of, check_weight
from trt_mpq.groups.exclusions import first_layers, modelopt_exclusions
from trt_mpq.groups.fusion import Chain, fuse
from trt_mpq.groups.scales import shared_scales
from trt_mpq.groups.shapes import bind_shapes, elements, is_float, shape_of
from trt_mpq.types import Grouping, LayerGroup, LooseOp, Precision, QuantizedInput, Weight

Exclusions = Literal["modelopt", "none"]
"""Which groups may not run in which precision: Model Optimizer's priors, or only what cannot work."""

_QUANTIZED = tuple(precision for precision in Precision if precision.quantized)


def groups_from_model(
    graph: ir.Model, sample_shapes: Mapping[str, tuple[int, ...]], exclusions: Exclusions = "modelopt"
) -> Grouping:
    """Divide a prepared graph into groups.

    Args:
        graph: A graph that `prepare_model` wrote; not changed.
        sample_shapes: Input name to the shape of one sample, batch axis included and 1; counts hold for it.
        exclusions: Whether Model Optimizer's exclusions apply.

    Raises:
        ModelError: A shape stays unknown, or a weight holds NaN or infinity; the message names the tensor.
    """
    bound = bind_shapes(graph, sample_shapes)
    chains = fuse([anchor for node in bound.graph if (anchor := anchor_of(node)) is not None])
    anchors = [chain.anchor for chain in chains]
    for weight in dict.fromkeys(anchor.weight for anchor in anchors):
        check_weight(weight)
    reasons = _shared_weight_reasons(anchors)
    if exclusions == "modelopt":
        reasons = _with_priors(reasons, bound.graph, anchors, batch_is_free=_batch_is_free(graph.graph))
    groups = tuple(_group(index, chain, reasons[chain.anchor.node]) for index, chain in enumerate(chains))
    quantized = [site.tensor for group in groups for site in group.inputs]
    return Grouping(groups, _loose_ops(bound.graph, groups), shared_scales(bound.graph, quantized))


def _batch_is_free(graph: ir.Graph) -> bool:
    return any(isinstance(value.shape[0], ir.SymbolicDim) for value in graph.inputs if value.shape)


def _shared_weight_reasons(anchors: Sequence[Anchor]) -> dict[ir.Node, dict[Precision, str]]:
    """Exclude anchors that read one weight along different axes: it can be quantized along one only."""
    readers: dict[ir.Value, list[Anchor]] = defaultdict(list)
    for anchor in anchors:
        readers[anchor.weight].append(anchor)
    reasons: dict[ir.Node, dict[Precision, str]] = {anchor.node: {} for anchor in anchors}
    for weight, users in readers.items():
        if len({anchor.weight_axis for anchor in users}) > 1:
            names = ", ".join(str(anchor.node.name) for anchor in users)
            text = f"weight {weight.name} is shared along different axes by {names}"
            reasons.update((anchor.node, dict.fromkeys(_QUANTIZED, text)) for anchor in users)
    return reasons


def _with_priors(
    reasons: Mapping[ir.Node, dict[Precision, str]],
    graph: ir.Graph,
    anchors: Sequence[Anchor],
    *,
    batch_is_free: bool,
) -> dict[ir.Node, dict[Precision, str]]:
    first = first_layers(graph, anchors)
    return {
        anchor.node: {
            **modelopt_exclusions(anchor, first=anchor.node in first, batch_is_free=batch_is_free),
            **reasons[anchor.node],
        }
        for anchor in anchors
    }


def _group(index: int, chain: Chain, excluded: Mapping[Precision, str]) -> LayerGroup:
    anchor, nodes = chain.anchor, (chain.anchor.node, *chain.followers)
    reads = [(anchor.node, 0, "input")]
    if chain.residual is not None:
        reads.append((*chain.residual, "residual"))
    read_elements = sum(elements(_input(node, position)) for node, position, _ in reads)
    return LayerGroup(
        id=str(anchor.node.name),
        index=index,
        op_type=anchor.node.op_type,
        nodes=tuple(str(node.name) for node in nodes),
        weight=Weight(str(anchor.weight.name), shape_of(anchor.weight), anchor.weight_axis),
        bias=None if chain.bias is None else str(chain.bias.name),
        anchor_output=str(anchor.output.name),
        output=str(chain.output.name),
        channel_axis=anchor.channel_axis,
        inputs=tuple(
            QuantizedInput(str(_input(node, position).name), str(node.name), position, role)
            for node, position, role in reads
        ),
        flops=anchor.flops + (elements(chain.output) if chain.residual is not None else 0),
        input_elements=read_elements,
        output_elements=elements(chain.output),
        excluded=dict(sorted(excluded.items())),
    )


def _input(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value


def _loose_ops(graph: ir.Graph, groups: Sequence[LayerGroup]) -> tuple[LooseOp, ...]:
    grouped = {name for group in groups for name in group.nodes}
    return tuple(_loose_op(node) for node in graph if node.name not in grouped and _computes(node))


def _computes(node: ir.Node) -> bool:
    """Whether the node touches floating-point data, rather than integers that describe shapes."""
    touches = any(is_float(value) for value in (*node.inputs, *node.outputs))
    return touches and node.op_type not in ("Shape", "Size")


def _loose_op(node: ir.Node) -> LooseOp:
    inputs = [value for value in node.inputs if value is not None and is_float(value)]
    outputs = [value for value in node.outputs if value.name]
    return LooseOp(
        node=str(node.name),
        op_type=node.op_type,
        inputs=tuple(str(value.name) for value in inputs),
        output=str(outputs[0].name),
        input_elements=sum(elements(value) for value in inputs),
        output_elements=sum(elements(value) for value in outputs),
    )
