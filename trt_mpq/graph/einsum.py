"""Einsum, spelled as the matrix product that it nearly always is: that is what TensorRT fuses and quantizes.

Of two operands without repeated indices, every index is one of four: of both and the result (batch), of both alone
(summed), of the left and the result (rows), of the right and the result (columns). Transposes bring them into that
order and Reshapes make one axis of several. Rows besides the last are batch axes that the right operand is broadcast
along, so that no size has to be known to merge them. A stored operand goes to the right, as a weight in its final form.
Of more operands, two at a time are contracted; an index of one operand alone that the result lacks is summed first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from string import ascii_letters

import numpy as np
import onnx_ir as ir

from trt_mpq.errors import ModelError
from trt_mpq.graph.replacement import Replacement, replace

_ELLIPSIS = "..."
_FIRST_FREE = 0x3B1
"""The axes of an ellipsis get Greek letters from here on, which no equation has."""
_PAIR = 2
"""Operands of a product."""


def labels_of(node: ir.Node) -> tuple[str, ...]:
    """One label per axis of every operand of an Einsum, then of its result; the ellipsis is spelled out.

    Raises:
        ModelError: The rank of an operand is unknown.
    """
    left, arrow, right = node.attributes.get_string("equation", "").replace(" ", "").partition("->")
    operands = left.split(",")
    named = [term.replace(_ELLIPSIS, "") for term in operands]
    hidden = [_rank(value) - len(term) for value, term in zip(node.inputs, named, strict=True)]
    free = "".join(chr(_FIRST_FREE + number) for number in range(max(hidden)))
    if not arrow:
        every = "".join(named)
        right = _ELLIPSIS * (_ELLIPSIS in left) + "".join(sorted(label for label in every if every.count(label) == 1))
    spelled = [term.replace(_ELLIPSIS, free[len(free) - rank :]) for term, rank in zip(operands, hidden, strict=True)]
    return (*spelled, right.replace(_ELLIPSIS, free))


def _rank(value: ir.Value | None) -> int:
    if value is None or value.shape is None:
        name = value.name if value else "an operand"
        raise ModelError(f"the rank of {name}, which an Einsum reads, is unknown: export the model with shapes")
    return len(value.shape)


def rewrite_einsum(graph: ir.Graph, node: ir.Node) -> None:
    """Replace an Einsum by Transpose, Reshape and MatMul if it is a matrix product, else leave it as it is.

    The result keeps its name, the product (of several the last) that of the Einsum. Results are equal up to the order
    of sums.
    """
    if any(value is None or value.shape is None or value.dtype is not ir.DataType.FLOAT for value in node.inputs):
        return
    for pair in [node] if len(node.inputs) <= _PAIR else list(_in_pairs(graph, node)):
        pair = _summed_alone(graph, pair)
        product = _product_of(pair)
        if product is not None:
            replace(pair.outputs[0], _write(Replacement(graph, pair), product))
            graph.remove(pair, safe=True)


def _in_pairs(graph: ir.Graph, node: ir.Node) -> Iterator[ir.Node]:
    """Einsums of two operands in place of one of more, each of which contracts what it can."""
    *terms, result = _spelled(labels_of(node))
    waiting, writer = list(zip(node.inputs, terms, strict=True)), Replacement(graph, node)
    value, labels = waiting.pop(0)
    while waiting:
        common = (i for i, (_, term) in enumerate(waiting) if set(labels) & set(term) - set(result))
        other, term = waiting.pop(next(common, 0))
        needed = "".join((*(other for _, other in waiting), result))
        left = "".join(dict.fromkeys(label for label in labels + term if label in needed)) if waiting else result
        assert value is not None
        assert other is not None
        sizes = _sizes(value, labels) | {k: v for k, v in _sizes(other, term).items() if v != 1 or k not in labels}
        name = None if waiting else writer.name
        made = writer.emit(
            "Einsum", [value, other], f"pair{len(waiting)}", name=name, equation=f"{labels},{term}->{left}"
        )
        made.shape = ir.Shape([sizes[label] for label in left])
        value, labels = made, left
        yield _producer(made)
    assert value is not None
    replace(node.outputs[0], value)
    graph.remove(node, safe=True)


def _spelled(labels: tuple[str, ...]) -> list[str]:
    """The same in letters that an equation may have."""
    letters = dict(zip(dict.fromkeys("".join(labels)), ascii_letters, strict=False))
    return ["".join(letters[label] for label in term) for term in labels]


def _sizes(value: ir.Value, labels: str) -> dict[str, int | ir.SymbolicDim]:
    return dict(zip(labels, value.shape or (), strict=True))


def _producer(value: ir.Value) -> ir.Node:
    node = value.producer()
    assert node is not None
    return node


def _summed_alone(graph: ir.Graph, node: ir.Node) -> ir.Node:
    """An Einsum that reads sums in place of `node`, if that would be a product but for indices of one operand alone."""
    if len(node.inputs) != _PAIR:
        return node
    *terms, result = _spelled(labels_of(node))
    lone = (set(terms[0]) ^ set(terms[1])) - set(result)
    first, second = ("".join(label for label in term if label not in lone) for term in terms)
    if not lone or any(len(set(term)) < len(term) for term in terms) or not all(_kinds(first, second, result)):
        return node
    writer = Replacement(graph, node)
    operands = [
        _sum_over(writer, value, [i for i, label in enumerate(term) if label in lone], f"operand{place}")
        for place, (value, term) in enumerate(zip(node.inputs, terms, strict=True))
        if value is not None
    ]
    made = writer.emit("Einsum", operands, "summed", name=writer.name, equation=f"{first},{second}->{result}")
    replace(node.outputs[0], made)
    graph.remove(node, safe=True)
    return _producer(made)


def _sum_over(writer: Replacement, value: ir.Value, axes: list[int], part: str) -> ir.Value:
    """`value` itself, or its sum over `axes`; of a constant another one."""
    if not axes:
        return value
    if value.const_value is not None:
        return writer.constant(value.const_value.numpy().sum(axis=tuple(axes)), f"{value.name}.{part}")
    places = writer.constant(np.array(axes, np.int64), f"{value.name}.{part}.axes")
    made = writer.emit("ReduceSum", [value, places], part, keepdims=0)
    made.shape = ir.Shape([size for axis, size in enumerate(value.shape or ()) if axis not in axes])
    return made


def _kinds(first: str, second: str, result: str) -> tuple[str, str, str]:
    """Labels of rows, columns and sums of a product of two operands."""
    rows = "".join(label for label in result if label not in second)
    columns = "".join(label for label in result if label not in first)
    return rows, columns, "".join(label for label in first if label in second and label not in result)


@dataclass(frozen=True)
class _Product:
    """``left @ right`` with the labels of every axis; `outer` are batch axes and all rows but the last, in order."""

    left: ir.Value
    right: ir.Value
    left_labels: str
    right_labels: str
    outer: str
    row: str
    summed: str
    columns: str
    result: str

    @property
    def batch(self) -> str:
        """Outer labels that the right operand has."""
        return "".join(label for label in self.outer if label in self.right_labels)

    def sizes(self, labels: str) -> list[int]:
        """Sizes of axes of the right operand; -1 where unknown."""
        shape = dict(zip(self.right_labels, self.right.shape or (), strict=True))
        return [size if isinstance(size := shape[label], int) else -1 for label in labels]


def _product_of(node: ir.Node) -> _Product | None:
    """What a matrix product of two operands would compute `node`; None if none does."""
    if len(node.inputs) != _PAIR:
        return None
    first, second, result = labels_of(node)
    left, right = node.inputs
    assert left is not None
    assert right is not None
    if left.const_value is not None:
        left, right, first, second = right, left, second, first
    if any(len(set(term)) < len(term) for term in (first, second, result)) or set(result) - {*first, *second}:
        return None
    rows, columns, summed = _kinds(first, second, result)
    lone = set(first) ^ set(second)
    if not (rows and columns and summed) or lone - {*result}:
        return None
    outer = "".join(label for label in result if label in first and label != rows[-1])
    product = _Product(left, right, first, second, outer, rows[-1], summed, columns, result)
    return product if _fits(product) else None


def _fits(product: _Product) -> bool:
    """Whether summed axes have equal sizes (one of 1 would be repeated), and columns can be merged and split again."""
    left = dict(zip(product.left_labels, product.left.shape or (), strict=True))
    right = dict(zip(product.right_labels, product.right.shape or (), strict=True))
    pairs = [(left[label], right[label]) for label in product.summed]
    equal = all(a == b for a, b in pairs if isinstance(a, int) and isinstance(b, int))
    return equal and (len(product.columns) == 1 or -1 not in product.sizes(product.columns))


def _write(writer: Replacement, product: _Product) -> ir.Value:
    """The nodes of `product`, and the value that they compute."""
    outer, row, summed, columns = product.outer, product.row, product.summed, product.columns
    left = _ordered(writer, product.left, product.left_labels, outer + row + summed, "left")
    if len(summed) > 1:
        left = writer.reshape(left, [*([0] * len(outer + row)), -1], "left_merged")
    constant = product.right.const_value is not None
    right = _weight(writer, product) if constant else _right(writer, product)
    written = writer.emit("MatMul", [left, right], "product", name=writer.name)
    if len(columns) > 1:
        written = writer.reshape(written, [*([0] * len(outer + row)), *product.sizes(columns)], "columns")
    return _ordered(writer, written, outer + row + columns, product.result, "result")


def _weight(writer: Replacement, product: _Product) -> ir.Value:
    """A stored right operand as ``[outer..., summed, columns]``, leading axes of 1 left out."""
    assert product.right.const_value is not None
    order = product.batch + product.summed + product.columns
    array = np.transpose(product.right.const_value.numpy(), [product.right_labels.index(label) for label in order])
    sizes = dict(zip(order, array.shape, strict=True))
    outer = [sizes.get(label, 1) for label in product.outer]
    while outer and outer[0] == 1:
        outer.pop(0)
    summed, columns = (math.prod(sizes[label] for label in labels) for labels in (product.summed, product.columns))
    return writer.constant(np.ascontiguousarray(array.reshape(*outer, summed, columns)), str(product.right.name))


def _right(writer: Replacement, product: _Product) -> ir.Value:
    """A computed right operand as ``[outer..., summed, columns]``, of 1 where it is broadcast."""
    batch, summed, columns = product.batch, product.summed, product.columns
    if len(summed + columns) == 2:
        value = _ordered(writer, product.right, product.right_labels, batch + summed + columns, "right")
    else:
        value = _ordered(writer, product.right, product.right_labels, batch + columns + summed, "right")
        merged = math.prod(product.sizes(columns)) if len(columns) > 1 else 0
        value = writer.reshape(value, [*([0] * len(batch)), merged, -1], "right_merged")
        value = _ordered(writer, value, batch + "cs", batch + "sc", "right_turned")
    missing = [axis for axis, label in enumerate(product.outer) if label not in batch]
    leading = missing == list(range(len(missing)))
    return value if leading else writer.unsqueeze(value, missing, "right_broadcast")


def _ordered(writer: Replacement, value: ir.Value, labels: str, wanted: str, part: str) -> ir.Value:
    """`value` with its axes in the order `wanted`."""
    return writer.transpose(value, [labels.index(label) for label in wanted], part)
