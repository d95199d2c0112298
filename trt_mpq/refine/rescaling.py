"""Dividing the channels of a tensor without a new operator: the constants before it that can take the division.

A division by a constant moves backwards through everything that commutes with it (linear layers, Relu, what only
moves values, the product of attention's probabilities and V) until constants absorb it. A *factor* is an
array with the rank of its tensor and size 1 along every axis on which it does not vary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from trt_mpq.graph.edit import add_constant, constant_array
from trt_mpq.graph.operators import HOMOGENEOUS, VIEWS
from trt_mpq.groups.shapes import is_constant, shape_of
from trt_mpq.numerics import FloatArray


@dataclass(frozen=True)
class Rescaling:
    """Input `index` of `node`, a constant, is to be multiplied by `by`, which broadcasts against it."""

    node: str
    index: int
    by: FloatArray


_Rescalings = tuple[Rescaling, ...]


def rescaled(graph: ir.Model, rescalings: Iterable[Rescaling]) -> ir.Model:
    """A copy of `graph` with the rescalings applied; a constant that others read too stays as it is for them."""
    model = graph.clone()
    nodes = {node.name: node for node in model.graph}
    for rescaling in rescalings:
        node = nodes[rescaling.node]
        constant = node.inputs[rescaling.index]
        assert constant is not None
        content = _multiplied(constant_array(constant), rescaling.by)
        if len(constant.uses()) == 1:
            constant.const_value, constant.shape = ir.tensor(content, name=constant.name), ir.Shape(content.shape)
        else:
            name = f"{constant.name}/{node.name}"
            node.replace_input_with(rescaling.index, add_constant(model.graph, name, content))
    return model


def division(value: ir.Value, factor: FloatArray) -> _Rescalings | None:
    """What makes `value` be ``value / factor`` and changes no other tensor that anyone reads outside the way there.

    Whether there is a way depends on the shape of `factor` only, not on what it holds.

    Args:
        value: A tensor of a graph with static shapes.
        factor: Positive, of the rank of `value`, broadcasting to its shape.

    Returns:
        The rescalings, or None if no constants can take the division.
    """
    node = value.producer()
    if node is None or value.is_graph_output():
        return None
    divide = _DIVISIONS.get(node.op_type)
    return None if divide is None else divide(node, value, factor)


def owned(constant: ir.Value | None) -> bool:
    """Whether `constant` is a constant of one reader; others are tied, and rescaling one end would untie them."""
    return constant is not None and is_constant(constant) and len(constant.uses()) == 1


def _before(value: ir.Value | None, factor: FloatArray | None) -> _Rescalings | None:
    """`division` of a tensor on the way, which nobody else may read."""
    if value is None or factor is None or len(value.uses()) != 1:
        return None
    return division(value, factor)


def _unary(node: ir.Node, value: ir.Value, factor: FloatArray) -> _Rescalings | None:
    return _before(node.inputs[0], factor)


def _normalization(node: ir.Node, value: ir.Value, factor: FloatArray) -> _Rescalings | None:
    axis = node.attributes.get_int("axis", -1)
    parameters = [(i, constant) for i, constant in enumerate(node.inputs) if i > 0 and constant is not None]
    if axis not in (-1, factor.ndim - 1) or not _last_axis_only(factor):
        return None
    if not all(is_constant(constant) for _, constant in parameters):
        return None
    return tuple(Rescaling(str(node.name), i, np.reciprocal(factor.ravel())) for i, _ in parameters)


def _matmul(node: ir.Node, value: ir.Value, factor: FloatArray) -> _Rescalings | None:
    left, right = node.inputs
    if is_constant(right):
        columns = owned(right) and len(shape_of(_present(right))) == 2 and _last_axis_only(factor)
        return (Rescaling(str(node.name), 1, np.reciprocal(factor.reshape(1, -1))),) if columns else None
    if is_constant(left) or not _reaches_the_right_operand(factor, _present(right), value):
        return None
    return _before(right, factor)


def _reaches_the_right_operand(factor: FloatArray, right: ir.Value, product: ir.Value) -> bool:
    """Whether the factor varies along columns and axes of the batch only, and the operand has all of these."""
    shape = shape_of(right)
    if len(shape) != factor.ndim or factor.shape[-2] != 1:
        return False
    wanted = zip(factor.shape, shape, shape_of(product), strict=True)
    return all(varies == 1 or own == size for varies, own, size in wanted)


def _gemm(node: ir.Node, value: ir.Value, factor: FloatArray) -> _Rescalings | None:
    weight, *bias = node.inputs[1:]
    if not owned(weight) or not _last_axis_only(factor) or not all(is_constant(constant) for constant in bias):
        return None
    transposed = node.attributes.get_int("transB", 0)
    columns = np.reciprocal(factor.reshape((-1, 1) if transposed else (1, -1)))
    return (
        Rescaling(str(node.name), 1, columns),
        *(Rescaling(str(node.name), 2, np.reciprocal(factor)) for _ in bias),
    )


def _add(node: ir.Node, value: ir.Value, factor: FloatArray) -> _Rescalings | None:
    found = _constant_operand(node, value)
    if found is None:
        return None
    index, other = found
    rest = _before(other, factor)
    return None if rest is None else (*rest, Rescaling(str(node.name), index, np.reciprocal(factor)))


def _multiply(node: ir.Node, value: ir.Value, factor: FloatArray) -> _Rescalings | None:
    """One operand of a product takes the division: a linear layer before it, otherwise a constant factor."""
    computed = [v for v in node.inputs if v is not None and not is_constant(v) and _same_shape(v, value)]
    for operand in computed:
        if (found := _before(operand, factor)) is not None:
            return found
    constant = _constant_operand(node, value)
    return None if constant is None else (Rescaling(str(node.name), constant[0], np.reciprocal(factor)),)


def _constant_operand(node: ir.Node, value: ir.Value) -> tuple[int, ir.Value] | None:
    """Index of the constant among two operands, and the other one, if that is computed and as large as the result."""
    for index, (constant, other) in enumerate(zip(node.inputs, reversed(node.inputs), strict=True)):
        if is_constant(constant) and not is_constant(other) and other is not None and _same_shape(other, value):
            return index, other
    return None


def _reshape(node: ir.Node, value: ir.Value, factor: FloatArray) -> _Rescalings | None:
    source = _present(node.inputs[0])
    return _before(source, _factor_before_reshape(factor, shape_of(source), shape_of(value)))


def _transpose(node: ir.Node, value: ir.Value, factor: FloatArray) -> _Rescalings | None:
    permutation = node.attributes["perm"].as_ints() if "perm" in node.attributes else range(factor.ndim)[::-1]
    return _before(node.inputs[0], np.transpose(factor, np.argsort(permutation)))


def _factor_before_reshape(factor: FloatArray, before: tuple[int, ...], after: tuple[int, ...]) -> FloatArray | None:
    """The factor of the tensor in front of a reshape from `before` to `after`, or None if it is no factor there.

    Axes are matched in the smallest blocks of equal size; a factor must vary over a whole block or not at all.
    """
    shape: list[int] = []
    first, second = 0, 0
    while first < len(before) or second < len(after):
        ends = _block(before, after, first, second)
        varies, whole = factor.shape[second : ends[1]], after[second : ends[1]]
        if all(size == 1 for size in varies):
            shape += [1] * (ends[0] - first)
        elif varies == whole:
            shape += before[first : ends[0]]
        else:
            return None
        first, second = ends
    return factor.reshape(shape)


def _block(before: tuple[int, ...], after: tuple[int, ...], first: int, second: int) -> tuple[int, int]:
    """The ends of the smallest runs of axes from `first` and `second` on that hold equally many elements."""
    i, j, left, right = first, second, 1, 1
    while left != right or (i == first and i < len(before)) or (j == second and j < len(after)):
        if j == len(after) or (i < len(before) and (left < right or i == first)):
            left, i = left * before[i], i + 1
        else:
            right, j = right * after[j], j + 1
    return i, j


def _last_axis_only(factor: FloatArray) -> bool:
    return factor.ndim > 0 and factor.size == factor.shape[-1]


def _same_shape(value: ir.Value, other: ir.Value) -> bool:
    return shape_of(value) == shape_of(other)


def _present(value: ir.Value | None) -> ir.Value:
    assert value is not None
    return value


def _multiplied(constant: FloatArray, by: FloatArray) -> FloatArray:
    """The product, without leading axes of 1 that `constant` did not have."""
    product = np.asarray(constant * by, dtype=np.float32)
    while product.ndim > max(constant.ndim, 1) and product.shape[0] == 1:
        product = product[0]
    return product


_DIVISIONS: dict[str, Callable[[ir.Node, ir.Value, FloatArray], _Rescalings | None]] = {
    "LayerNormalization": _normalization,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Add": _add,
    "Mul": _multiply,
    **dict.fromkeys(HOMOGENEOUS, _unary),
    **dict.fromkeys(VIEWS, _reshape),
    "Transpose": _transpose,
}
"""Operators that a division passes through or ends at. RMSNorm and LayerNorm spelled out end at their Mul."""
