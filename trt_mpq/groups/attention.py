"""Attention: two products of activations with a softmax between them, which TensorRT runs as one kernel.

Pattern (TensorRT developer guide, "Multi-head attention fusion"): ``MatMul -> scale, mask -> Softmax -> MatMul``.
Views may stand between as long as the axis of the keys stays one, biases of any kind may be added, and heads must be as
wide for V as for K, with more than 8 features and up to 256: so NVIDIA's compiler fuses it (TensorRT for RTX 1.7.1,
compute capability 8.9). What is not fused is two products, each a group of its own.
TensorRT runs it in 8 bit if Q, K, V and the softmax have quantizers right in front of the products, which is where
Model Optimizer puts them for FP8. What stands before (the scale on Q or K, splitting into heads) is no part of it.
TensorRT's newer documentation asks for the scale in front of the first product; older exporters write it behind, which
is matched here too, and what the engine made of it is read back from the engine.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from trt_mpq.graph.operators import VIEWS
from trt_mpq.groups.arithmetic import multiply_adds
from trt_mpq.groups.exclusions import PLAIN, SMALLEST_TILE, by_codes
from trt_mpq.groups.shapes import is_float, shape_of
from trt_mpq.types import Precision

_POINTWISE = frozenset({"Mul", "Div", "Add", "Sub", "Where"})
"""What scales and masks the scores."""

_HEADS = range(9, 257)
"""Features of one head in a fused kernel."""
_INT8_SEQUENCE = 512


@dataclass(frozen=True)
class Attention:
    """``softmax(mask(scale(query @ key))) @ value``.

    Attributes:
        scores: The MatMul of query and key, which has the transposed key as its second input.
        between: Scale, mask and views, in order, with the Softmax.
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
    def output(self) -> ir.Value:
        """The tensor written."""
        return self.product.outputs[0]

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
        """Features of one head."""
        return _last(self.output)

    @property
    def flops(self) -> int:
        """Two per multiply-add of the two products, for one sample."""
        return 2 * (multiply_adds(self.scores) + multiply_adds(self.product))


def find_attention(graph: ir.Graph) -> list[Attention]:
    """Every attention of a graph with static shapes, in network order."""
    return [found for node in graph if (found := _starting_at(node)) is not None]


def attention_exclusions(attention: Attention) -> dict[Precision, str]:
    """Precision to the reason why Model Optimizer does not quantize this attention in it."""
    queries, keys = attention.lengths
    head = attention.head_size
    general = None
    if 1 in (queries, keys):
        general = f"{queries} queries and {keys} keys: matrix times vector, bound by memory"
    elif min(head, keys) < SMALLEST_TILE:
        name, size = ("head size", head) if head < SMALLEST_TILE else ("sequence length", keys)
        general = f"{name} {size} is below {SMALLEST_TILE}"
    longest = max(queries, keys)
    integer = f"sequence length {longest} is above {_INT8_SEQUENCE}" if longest > _INT8_SEQUENCE else None
    return by_codes(PLAIN, general, general or integer)


def _starting_at(scores: ir.Node) -> Attention | None:
    if not multiplies_activations(scores):
        return None
    between: list[ir.Node] = []
    step = _sole_reader(scores.outputs[0])
    while step is not None and not multiplies_activations(step[0]):
        if not _keeps_scores(*step, normalized=any(node.op_type == "Softmax" for node in between)):
            return None
        between.append(step[0])
        step = _sole_reader(step[0].outputs[0])
    if step is None or step[1] != 0 or all(node.op_type != "Softmax" for node in between):
        return None
    found = Attention(scores, tuple(between), step[0])
    return found if found.head_size == _last(scores.inputs[0]) and found.head_size in _HEADS else None


def multiplies_activations(node: ir.Node) -> bool:
    """Whether `node` is a product of two batches of matrices that are both computed."""
    operands = [value for value in node.inputs if is_float(value)]
    return node.op_type == "MatMul" and len(operands) == 2 and all(len(shape_of(value)) >= 3 for value in operands)


def _keeps_scores(node: ir.Node, index: int, *, normalized: bool) -> bool:
    """Whether `node`, which reads the scores as input `index`, scales, masks, normalizes or views each of them.

    What is `normalized` is viewed only.
    """
    data = node.inputs[index]
    assert data is not None
    if node.op_type in VIEWS:
        return _last(node.outputs[0]) == _last(data)
    if normalized:
        return False
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
    """Size of the last axis; 1 for a scalar."""
    assert value is not None
    return (1, *shape_of(value))[-1]
