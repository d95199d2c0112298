"""Operators that groups form around, their axes and FLOPs, and the weights they share."""

from __future__ import annotations

import numpy as np
import pytest

from tests.groups.graphs import CONV, grouped
from trt_mpq.errors import ModelError
from trt_mpq.types import Precision


@pytest.mark.parametrize(
    ("call", "x", "w", "axis", "flops"),
    [
        ("Conv(x, w)", (1, 4, 5, 5), (6, 4, 3, 3), 0, 2 * 6 * 9 * 4 * 9),
        ("Conv<group=4>(x, w)", (1, 4, 5, 5), (4, 1, 3, 3), 0, 2 * 4 * 9 * 9),
        ("ConvTranspose<strides=[2,2]>(x, w)", (1, 4, 5, 5), (4, 6, 2, 2), 1, 2 * 4 * 25 * 6 * 4),
        ("ConvTranspose<group=2>(x, w)", (1, 4, 5, 5), (4, 3, 3, 3), 1, 2 * 4 * 25 * 3 * 9),
        ("Gemm(x, w)", (1, 5), (5, 7), 1, 2 * 5 * 7),
        ("Gemm<transB=1>(x, w)", (1, 5), (7, 5), 0, 2 * 5 * 7),
        ("MatMul(x, w)", (1, 3, 5), (5, 7), 1, 2 * 3 * 5 * 7),
        ("MatMul(x, w)", (1, 3, 4, 5), (3, 5, 7), None, 2 * 3 * 4 * 5 * 7),
    ],
)
def test_weight_axis_and_flops(call: str, x: tuple[int, ...], w: tuple[int, ...], axis: int | None, flops: int) -> None:
    dims = ",".join(map(str, ("N", *x[1:])))
    out = ",".join(f"d{i}" for i in range(len(x)))
    group = grouped(f"g (float[{dims}] x) => (float[{out}] y) {{ y = {call} }}", {"w": w}).groups[0]
    assert (group.weight.axis, group.flops, group.weight.shape) == (axis, flops, w)
    assert group.weight.channel_axis == (1 if "MatMul" not in call else len(x) - 1)
    assert (group.weight.index, group.weight.rank, group.inputs[0].index) == (1, len(x), 0)


@pytest.mark.parametrize(
    ("call", "x", "w", "axis", "flops"),
    [
        ("MatMul(w, x)", (1, 5, 3), (7, 5), 0, 2 * 7 * 5 * 3),
        ("MatMul(w, x)", (1, 4, 5, 3), (4, 7, 5), None, 2 * 4 * 7 * 5 * 3),
        ("Gemm(w, x)", (5, 3), (7, 5), 0, 2 * 7 * 5 * 3),
        ("Gemm<transA=1>(w, x)", (5, 3), (5, 7), 1, 2 * 7 * 5 * 3),
        ("Gemm<transB=1>(w, x, column)", (3, 5), (7, 5), 0, 2 * 7 * 5 * 3),
    ],
)
def test_a_weight_on_the_left_has_a_scale_per_row_of_the_result(
    call: str, x: tuple[int, ...], w: tuple[int, ...], axis: int | None, flops: int
) -> None:
    dims, out = ",".join(map(str, x)), ",".join(f"d{i}" for i in range(len(x)))
    body = f"g (float[{dims}] x) => (float[{out}] y) {{ y = {call} }}"
    (group,) = grouped(body, {"w": w, "column": (7, 1)}).groups
    weight, (read,) = group.weight, group.inputs
    assert (weight.axis, group.flops, weight.shape, weight.index) == (axis, flops, w, 0)
    assert (weight.channel_axis, weight.rank) == (len(x) - 2, len(x))
    assert (read.tensor, read.index, read.role) == ("x", 1, "input")


def test_what_is_added_per_row_is_the_bias_of_a_weight_on_the_left() -> None:
    body = "g (float[N,4,4] x) => (float y) {{ p = MatMul(w, x) a = Add(p, {bias}) y = Relu(a) }}"
    constants = {"w": (4, 4), "column": (4, 1), "row": (4,)}
    (joined,) = grouped(body.format(bias="column"), constants).groups
    (apart,) = grouped(body.format(bias="row"), constants).groups
    assert (joined.nodes, joined.weight.bias) == (("p", "a", "y"), "column")
    assert (apart.nodes, apart.weight.bias) == (("p",), None)


def test_products_of_one_tensor_with_weights_on_one_side_are_one_group() -> None:
    body = """g (float[N,4,4] x) => (float y) {
        a = MatMul(w, x) b = MatMul(v, x) c = MatMul(x, u) s = Add(a, b) y = Add(s, c) }"""
    grouping = grouped(body, {"w": (4, 4), "v": (4, 4), "u": (4, 4)})
    assert [tuple(w.node for w in group.weights) for group in grouping.groups] == [("a", "b"), ("c",)]


def test_a_weight_that_is_left_and_right_has_no_common_scales() -> None:
    body = "g (float[N,4,4] x) => (float y) { a = MatMul(w, x) c = MatMul(x, w) y = Add(a, c) }"
    groups = grouped(body, {"w": (4, 4)}).groups
    assert all("shared along different axes" in group.excluded[Precision.INT8] for group in groups)


LOOSE = {
    "vector on the left": ("MatMul(w, x)", (4,)),
    "both computed": ("Gemm(x, x)", ()),
    "vector": ("MatMul(x, w)", (4,)),
    "third input per row": ("Gemm(x, w, rows)", (4, 4)),
    "third input per column of a weight on the left": ("Gemm(w, x, columns)", (4, 4)),
    "third input computed": ("Gemm(x, w, x)", (4, 4)),
}


@pytest.mark.parametrize("case", LOOSE)
def test_weighted_operators_that_are_no_anchor(case: str) -> None:
    call, shape = LOOSE[case]
    body = f"g (float[4,4] x) => (float y) {{ z = {call} y = Relu(z) }}"
    grouping = grouped(body, {"w": shape, "rows": (4, 4), "columns": (4,)})
    assert not grouping.groups
    assert [op.node for op in grouping.loose] == ["z", "y"]


def test_integers_are_neither_grouped_nor_loose() -> None:
    body = """g (float[N,4] x, int64[N,4] i) => (float[N,4] y, int64[N,4] j) {
        s = Shape(x) j = MatMul(i, k) r = Reshape(x, s) y = Relu(r) }"""
    grouping = grouped(body, {"k": np.ones((4, 4), np.int64)})
    assert not grouping.groups
    assert [op.node for op in grouping.loose] == ["r", "y"]


def test_loose_op_counts_elements() -> None:
    body = """g (float[N,4,6,6] x) => (float y, float z) {
        y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) z, t = Split<axis=1>(x) }"""
    pool, split = grouped(body, {}).loose
    assert (pool.inputs, pool.output, pool.input_elements, pool.output_elements) == (("x",), "y", 144, 36)
    assert (split.output, split.output_elements) == ("z", 144)


def test_weight_shared_along_one_axis_is_allowed() -> None:
    body = "g (float[N,4,5,5] x) => (float[N,4,5,5] y) { a = Conv(x, w) y = Conv(a, w) }"
    assert all(not group.excluded for group in grouped(body, CONV).groups)


def test_weight_shared_along_different_axes_stays_in_high_precision() -> None:
    body = "g (float[N,4] x) => (float[N,4] y) { a = Gemm(x, w) y = Gemm<transB=1>(a, w) }"
    for group in grouped(body, {"w": (4, 4)}).groups:
        assert set(group.excluded) == {precision for precision in Precision if precision.quantized}
        assert group.excluded[Precision.INT8] == "weight w is shared along different axes by a, y"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weight_that_is_not_finite(value: float) -> None:
    weight = np.ones((4, 4, 1, 1), np.float32)
    weight[2, 1] = value
    with pytest.raises(ModelError, match="weight w holds NaN or infinite values"):
        grouped("g (float[N,4,5,5] x) => (float[N,4,5,5] y) { y = Conv(x, w) }", {"w": weight})


def test_weight_of_zeros_is_fine() -> None:
    weight = np.zeros((4, 4, 1, 1), np.float32)
    grouping = grouped("g (float[N,4,5,5] x) => (float[N,4,5,5] y) { y = Conv(x, w) }", {"w": weight})
    assert not grouping.groups[0].excluded
