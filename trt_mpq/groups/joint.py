"""Matrix products of one tensor, such as Q, K and V, which TensorRT runs as one product with the weights side by side.

It does so only if their precisions agree, and they share one quantizer in front: they are one decision.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import onnx_ir as ir

from trt_mpq.groups.fusion import Chain
from trt_mpq.groups.shapes import viewed
from trt_mpq.types import Precision


def join_products(
    chains: Sequence[Chain], excluded: Mapping[ir.Node, Mapping[Precision, str]]
) -> list[tuple[Chain, ...]]:
    """Chains that are one group, in network order: matrix products of one operator that read one tensor.

    A view of a tensor counts as the tensor. Products that differ in what they are `excluded` from (by anchor) stay
    apart: a classifier with one output beside a wide one must not keep it in high precision.
    """
    joined: dict[object, list[Chain]] = defaultdict(list)
    for chain in chains:
        anchor = chain.anchor
        key = (viewed(anchor.data), anchor.node.op_type, frozenset(excluded[anchor.node]))
        joined[anchor.node if anchor.kernel or anchor.weight_axis is None else key].append(chain)
    return [tuple(members) for members in joined.values()]
