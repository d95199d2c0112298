"""From what was found in the graph to the values that other stages read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx_ir as ir

from trt_mpq.groups.attention import Attention
from trt_mpq.groups.fusion import Chain
from trt_mpq.groups.products import Product
from trt_mpq.groups.shapes import elements, shape_of, viewed
from trt_mpq.types import LayerGroup, Precision, QuantizedInput, Weight

_Read = tuple[ir.Node, int, str]
"""Node, input number and role."""


def weighted_group(
    chains: Sequence[Chain], excluded: Mapping[Precision, str], patches: Mapping[str, tuple[int, ...]]
) -> LayerGroup:
    """The group of one chain, or of several that are computed together; its index is still to be given.

    `patches` maps anchors to how many patches they lay along each axis.
    """
    reads = [read for chain in chains for read in _chain_reads(chain)]
    nodes = [node for chain in chains for node in (chain.anchor.node, *chain.followers)]
    return LayerGroup(
        id=str(nodes[0].name),
        index=-1,
        op_type=nodes[0].op_type,
        nodes=tuple(str(node.name) for node in nodes),
        weights=tuple(_weight(chain, patches) for chain in chains),
        inputs=_sites(reads),
        writes={str(chain.output.name): elements(chain.output) for chain in chains},
        flops=sum(chain.anchor.flops for chain in chains),
        input_elements=_read_elements(reads),
        excluded=dict(sorted(excluded.items())),
    )


def product_group(found: Attention | Product, excluded: Mapping[Precision, str]) -> LayerGroup:
    """The group of what has no weight; its index is still to be given. A mask, which is small, is not counted."""
    return LayerGroup(
        id=str(found.nodes[0].name),
        index=-1,
        op_type="Attention" if isinstance(found, Attention) else found.node.op_type,
        nodes=tuple(str(node.name) for node in found.nodes),
        weights=(),
        inputs=_sites(found.reads),
        writes={str(found.output.name): elements(found.output)},
        flops=found.flops,
        input_elements=_read_elements(read for read in found.reads if read[2] != "probabilities"),
        excluded=dict(sorted(excluded.items())),
    )


def _chain_reads(chain: Chain) -> list[_Read]:
    residual = [] if chain.residual is None else [(*chain.residual, "residual")]
    return [(chain.anchor.node, chain.anchor.data_index, "input"), *residual]


def _weight(chain: Chain, patches: Mapping[str, tuple[int, ...]]) -> Weight:
    anchor = chain.anchor
    return Weight(
        name=str(anchor.weight.name),
        shape=shape_of(anchor.weight),
        axis=anchor.weight_axis,
        node=str(anchor.node.name),
        bias=None if chain.bias is None else str(chain.bias.name),
        output=str(anchor.output.name),
        channel_axis=anchor.channel_axis,
        rank=len(shape_of(anchor.output)),
        index=anchor.weight_index,
        patches=patches.get(str(anchor.node.name), ()),
    )


def _sites(reads: Iterable[_Read]) -> tuple[QuantizedInput, ...]:
    return tuple(
        QuantizedInput(str(_input(node, index).name), str(node.name), index, role) for node, index, role in reads
    )


def _read_elements(reads: Iterable[_Read]) -> int:
    """Elements of what is read, where reads of one tensor by several products count once."""
    tensors = {(viewed(_input(node, index)), role) for node, index, role in reads}
    return sum(elements(value) for value, _ in tensors)


def _input(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value
