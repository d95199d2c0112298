"""Attention: two products of activations with a softmax between them, which TensorRT runs as one kernel.

Pattern (TensorRT developer guide, "Multi-head attention fusion"): ``MatMul -> scale, mask -> Softmax -> MatMul``.
TensorRT runs it in 8 bit if Q, K, V and the softmax have quantizers right in front of the products, which is where
Model Optimizer puts them for FP8. What stands before (the scale on Q or K, splitting into heads) is no part of it.
TensorRT's newer documentation asks for the scale in front of the first product; older exporters write it behind, which
is matched here too, and what the engine made of it is read back from the engine.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from trt_mpq.groups.arithmetic import multiply_adds
from trt_mpq.groups.shapes import is_float, shape_of
from trt_mpq.types import Precision

_POINTWISE = frozenset({"Mul", "Div", "Add", "Sub", "Where"})
"""What scales and masks the scores."""

_INT8_SEQUENCE = 512
_FP8_HEAD = 256
_SMALL = 16
"""Fewest K or N of a product that fill a tensor core tile."""


@dataclass(frozen=True)
class Attention:
    """``softmax(mask(scale(query @ key))) @ value``.

    Attributes:
        scores: The MatMul of query and key, which has the transposed key as its second input.
        between: Scale and mask, in order, then the Softmax.
        product: The MatMul of the probabilities and the value.
    """

    scores: ir.Node
    between: tuple[ir.Node, ...]
    product: ir.Node

    @property
    def nodes(self) -> tuple[ir.Node, ...]:
        """All its nodes, in order."""
        return (self.scores, *self.between, self.product)

    @property
    def reads(self) -> tuple[tuple[ir.Node, int, str], ...]:
        """Node, input number and role of every operand of the two products."""
        return (
            (self.scores, 0, "query"),
            (self.scores, 1, "key"),
            (self.product, 0, "probabilities"),
            (self.product, 1, "value"),
        )

    @property
    def lengths(self) -> tuple[int, int]:
        """Sequence length of the queries and of the keys, in the samples."""
        *_, queries, keys = shape_of(self.scores.outputs[0])
        return queries, keys

    @property
    def head_size(self) -> int:
        """Features of one head, the larger of the key's and the value's."""
        return max(_last(self.scores.inputs[0]), _last(self.product.outputs[0]))

    @property
    def flops(self) -> int:
        """Two per multiply-add of the two products, for one sample."""
        return 2 * (multiply_adds(self.scores) + multiply_adds(self.product))


def find_attention(graph: ir.Graph) -> list[Attention]:
    """Every attention of a graph with static shapes, in network order."""
    return [found for node in graph if (found := _starting_at(node)) is not None]


def attention_exclusions(attention: Attention) -> dict[Precision, str]:
    """Precision to the reason why Model Optimizer does not quantize this attention in it.

    Its lower limit for FP8, a head size above 8, is covered by the one on K of every product.
    """
    queries, keys = attention.lengths
    head = min(_last(attention.scores.inputs[0]), _last(attention.product.outputs[0]))
    general = None
    if 1 in (queries, keys):
        general = f"{queries} queries and {keys} keys: matrix times vector, bound by memory"
    elif min(head, keys) < _SMALL:
        name, size = ("head size", head) if head < _SMALL else ("sequence length", keys)
        general = f"{name} {size} is below {_SMALL}"
    integer = f"sequence length {max(queries, keys)} is above {_INT8_SEQUENCE}"
    eight_bit_float = f"head size {attention.head_size} is above {_FP8_HEAD}"
    reasons = {
        Precision.FP8: general or (eight_bit_float if attention.head_size > _FP8_HEAD else None),
        Precision.INT8: general or (integer if max(queries, keys) > _INT8_SEQUENCE else None),
    }
    reasons[Precision.INT4] = reasons[Precision.INT8]
    return {precision: reason for precision, reason in reasons.items() if reason}


def _starting_at(scores: ir.Node) -> Attention | None:
    if not _multiplies_activations(scores):
        return None
    between: list[ir.Node] = []
    node, index = scores, 0
    while node.op_type != "Softmax":
        step = _sole_reader(node.outputs[0])
        if step is None:
            return None
        node, index = step
        if not _keeps_scores(node, index):
            return None
        between.append(node)
    product = _sole_reader(node.outputs[0])
    if product is None or product[1] != 0 or not _multiplies_activations(product[0]):
        return None
    return Attention(scores, tuple(between), product[0])


def _multiplies_activations(node: ir.Node) -> bool:
    operands = [value for value in node.inputs if is_float(value)]
    return node.op_type == "MatMul" and len(operands) == 2 and all(len(shape_of(value)) >= 3 for value in operands)


def _keeps_scores(node: ir.Node, index: int) -> bool:
    """Whether `node`, which reads the scores as input `index`, scales, masks or normalizes each of them."""
    data = node.inputs[index]
    assert data is not None
    if node.op_type == "Softmax":
        return node.attributes.get_int("axis", -1) in (-1, len(shape_of(data)) - 1)
    divides_by_them = node.op_type in ("Div", "Sub") and index == 1
    chooses_by_them = node.op_type == "Where" and index == 0
    same_shape = shape_of(node.outputs[0]) == shape_of(data)
    return node.op_type in _POINTWISE and same_shape and not divides_by_them and not chooses_by_them


def _sole_reader(value: ir.Value) -> tuple[ir.Node, int] | None:
    uses = () if value.is_graph_output() else tuple(value.uses())
    return (uses[0].node, uses[0].idx) if len(uses) == 1 else None


def _last(value: ir.Value | None) -> int:
    assert value is not None
    return shape_of(value)[-1]
