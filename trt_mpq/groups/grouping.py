"""The grouping of a model: every node is in a group, loose, or a shape computation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
import onnx_ir as ir

from trt_mpq.errors import ModelError
from trt_mpq.groups.anchors import Anchor, anchor_of
from trt_mpq.groups.attention import attention_exclusions, find_attention
from trt_mpq.groups.exclusions import PLAIN, first_layers, misfits, misfits_of_products, modelopt_exclusions
from trt_mpq.groups.fusion import Chain, fuse
from trt_mpq.groups.loose import loose_ops
from trt_mpq.groups.patches import patch_grids
from trt_mpq.groups.products import find_products, product_exclusions
from trt_mpq.groups.scales import scale_ties
from trt_mpq.groups.shapes import bind_shapes, viewed
from trt_mpq.groups.values import product_group, weighted_group
from trt_mpq.types import Grouping, LayerGroup, Precision

Exclusions = Literal["modelopt", "none"]
"""Which groups may not run in which precision: Model Optimizer's priors, or only what cannot work."""

_QUANTIZED = tuple(precision for precision in Precision if precision.quantized)


def groups_from_model(
    graph: ir.Model,
    shapes: Mapping[str, tuple[int, ...]],
    exclusions: Exclusions = "modelopt",
    capability: int | None = None,
    formats: Iterable[Precision] = (),
) -> Grouping:
    """Divide a prepared graph into groups.

    Args:
        graph: A graph that `prepare_model` wrote; not changed.
        shapes: Tensor name to shape for one sample, batch axis included and 1, of the inputs and of tensors that were
            observed, see `shapes.bind_shapes`; counts hold for it.
        exclusions: Whether Model Optimizer's exclusions apply.
        capability: Compute capability, times ten, that TensorRT for RTX may build for; None where another builds.
        formats: What groups are to run in, beside FP8 and integers. What none can is excluded for each that is asked.

    Raises:
        ModelError: A shape stays unknown, or a weight holds NaN or infinity; the message names the tensor.
    """
    bound = bind_shapes(graph, shapes)
    chains = fuse([anchor for node in bound.graph if (anchor := anchor_of(node)) is not None])
    anchors = [chain.anchor for chain in chains]
    for weight in dict.fromkeys(anchor.weight for anchor in anchors):
        _check_weight(weight)
    reasons = _shared_weight_reasons(anchors)
    priors, asked = exclusions == "modelopt", tuple(dict.fromkeys((*PLAIN, *formats)))
    reasons = {a.node: {**reasons[a.node], **misfits(a, asked)} for a in anchors}
    grids = patch_grids(graph.graph)
    if priors:
        prior = partial(
            modelopt_exclusions, batch_is_free=_batch_is_free(graph.graph), capability=capability, formats=asked
        )
        first = first_layers(bound.graph, anchors)
        reasons = {
            a.node: {**prior(a, first=a.node in first, patches=a.node.name in grids), **reasons[a.node]}
            for a in anchors
        }
    groups = [weighted_group(joined, reasons[joined[0].anchor.node], grids) for joined in _joined(chains, reasons)]
    attentions = find_attention(bound.graph)
    products = find_products(bound.graph, {node for attention in attentions for node in attention.nodes})
    other = misfits_of_products(asked)
    groups += [product_group(found, other | (attention_exclusions(found) if priors else {})) for found in attentions]
    small = {found: product_exclusions(found, capability) if priors else {} for found in products}
    groups += [product_group(found, other | reasons) for found, reasons in small.items()]
    ordered = _in_network_order(groups, bound.graph)
    quantized = [site.tensor for group in ordered for site in group.inputs]
    return Grouping(
        ordered, loose_ops(bound.graph, ordered), scale_ties(bound.graph, quantized, (*attentions, *products))
    )


def _check_weight(weight: ir.Value) -> None:
    """Raise ModelError if a weight holds NaN or infinity."""
    assert weight.const_value is not None
    if not np.isfinite(weight.const_value.numpy()).all():
        raise ModelError(f"weight {weight.name} holds NaN or infinite values: export the model again")


def _joined(chains: Sequence[Chain], excluded: Mapping[ir.Node, Mapping[Precision, str]]) -> list[tuple[Chain, ...]]:
    """Chains that are one group, in network order: matrix products of one operator that read one tensor.

    TensorRT runs such products (Q, K and V, say) as one with the weights side by side, but only if their precisions
    agree, and they share one quantizer in front: they are one decision. A view of a tensor counts as the tensor.
    Products that differ in what they are `excluded` from (by anchor) stay apart: a classifier with one output beside a
    wide one must not keep it in high precision.
    """
    joined: dict[object, list[Chain]] = defaultdict(list)
    for chain in chains:
        anchor = chain.anchor
        key = (viewed(anchor.data), anchor.node.op_type, anchor.weight_index, frozenset(excluded[anchor.node]))
        joined[anchor.node if anchor.kernel or anchor.weight_axis is None else key].append(chain)
    return [tuple(members) for members in joined.values()]


def _in_network_order(groups: Iterable[LayerGroup], graph: ir.Graph) -> tuple[LayerGroup, ...]:
    position = {node.name: index for index, node in enumerate(graph)}
    ordered = sorted(groups, key=lambda group: position[group.id])
    return tuple(replace(group, index=index) for index, group in enumerate(ordered))


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
