"""Matrix products of two computed tensors that are no part of a fused attention.

Each operand is quantized as a whole, since a computed tensor has no scale per channel. The two products of an attention
that TensorRT does not fuse (`groups.attention`) are two such decisions, a graph convolution or the interactions of a
recommender one.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import onnx_ir as ir

from trt_mpq.groups.arithmetic import multiply_adds
from trt_mpq.groups.exclusions import PLAIN, SMALLEST_TILE, by_codes, narrow
from trt_mpq.groups.shapes import is_float, shape_of
from trt_mpq.types import Precision


@dataclass(frozen=True)
class Product:
    """``left @ right``, both computed."""

    node: ir.Node

    @property
    def nodes(self) -> tuple[ir.Node, ...]:
        """The one node."""
        return (self.node,)

    @property
    def output(self) -> ir.Value:
        """The tensor written."""
        return self.node.outputs[0]

    @property
    def reads(self) -> tuple[tuple[ir.Node, int, str], ...]:
        """Node, input number and role of both operands."""
        return (self.node, 0, "left"), (self.node, 1, "right")

    @property
    def flops(self) -> int:
        """Two per multiply-add, for one sample."""
        return 2 * multiply_adds(self.node)


def find_products(graph: ir.Graph, taken: Container[ir.Node]) -> list[Product]:
    """Every product of two computed matrices in nodes that are not `taken`, in network order."""
    return [Product(node) for node in graph if node not in taken and _multiplies_matrices(node)]


def product_exclusions(product: Product, capability: int | None = None) -> dict[Precision, str]:
    """Precision to the reason why Model Optimizer does not quantize this product in it.

    Args:
        product: The product.
        capability: Compute capability, times ten, that TensorRT for RTX may build for; None where another builds.
    """
    left, right = (shape_of(_operand(product.node, index)) for index in (0, 1))
    rows, summed, columns = left[-2], left[-1], right[-1]
    if 1 in (rows, columns):
        reason = "matrix times vector, bound by memory"
        return by_codes(PLAIN, reason, reason)
    name, size = ("K", summed) if summed < SMALLEST_TILE else ("N", columns)
    reason = f"{name} = {size} is below {SMALLEST_TILE}"
    return narrow(PLAIN, capability, reason, reason) if size < SMALLEST_TILE else {}


def _multiplies_matrices(node: ir.Node) -> bool:
    if node.op_type != "MatMul":
        return False
    return all(is_float(value) and len(shape_of(value)) >= 2 for value in node.inputs)


def _operand(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value
