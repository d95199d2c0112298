"""All multiply-adds are accounted for. Counts are checked against products written out here, not against ours."""

from __future__ import annotations

import numpy as np
import pytest

from tests.groups.graphs import from_text, grouped, sample_shapes
from trt_mpq.groups import groups_from_model
from trt_mpq.groups.accounting import account_for, rules_of

COUNTED = {
    "einsum": (
        "n (float[2, 5, 8] x, float[2, 7, 8] y) => (float[2, 5, 7] z)"
        "{ z = Einsum <equation = \"bqd,bkd->bqk\"> (x, y) }",
        {}, 2 * 5 * 7 * 8,
    ),
    "einsum of three": (
        "n (float[2, 5] x) => (float[2, 3] z) { z = Einsum <equation = \"...i,ij,jk\"> (x, v, w) }",
        {"v": (5, 4), "w": (4, 3)}, 2 * (2 * 5 * 4 * 3),
    ),
    "computed convolution": (
        "n (float[1, 4, 9, 9] x, float[6, 4, 3, 3] w) => (float[1, 6, 7, 7] z) { z = Conv (x, w) }",
        {}, 6 * 7 * 7 * 4 * 9,
    ),
    "transposed convolution": (
        "n (float[1, 4, 5, 5] x, float[4, 6, 2, 2] w) => (float[1, 6, 10, 10] z)"
        "{ z = ConvTranspose <strides = [2, 2]> (x, w) }",
        {}, 25 * 4 * 6 * 4,
    ),
    "gemm": (
        "n (float[9, 5] x, float[9, 7] w) => (float[5, 7] z) { z = Gemm <transA = 1> (x, w) }",
        {}, 5 * 9 * 7,
    ),
    "lstm": (
        "n (float[10, 2, 6] x) => (float[10, 2, 2, 8] z)"
        "{ z = LSTM <hidden_size = 8, direction = \"bidirectional\"> (x, w, r) }",
        {"w": (2, 32, 6), "r": (2, 32, 8)}, 10 * 2 * 2 * 32 * (6 + 8),
    ),
    "gru, batch first": (
        "n (float[2, 10, 6] x) => (float[2, 10, 1, 8] z) { z = GRU <hidden_size = 8, layout = 1> (x, w, r) }",
        {"w": (1, 24, 6), "r": (1, 24, 8)}, 2 * 10 * 24 * (6 + 8),
    ),
    "dearer branch": (
        """n (float[2, 8] x, bool[1] c) => (float[2, 4] z) { z = If (c) <
            then_branch = t () => (float[] a) { h = MatMul (x, w) a = Relu (h) },
            else_branch = e () => (float[] b) { h = MatMul (x, u) b = MatMul (h, v) }> }""",
        {"w": (8, 4), "u": (8, 16), "v": (16, 4)}, 2 * (8 * 16 + 16 * 4),
    ),
    "every step of a scan": (
        """n (float[3, 8] s, float[5, 3, 8] x) => (float[3, 8] f, float[5, 3, 8] z) {
            f, z = Scan <num_scan_inputs = 1, body = b (float[3, 8] c, float[3, 8] i)
                => (float[3, 8] n, float[3, 8] o) {
                m = MatMul (i, w) n = Add (m, c) o = Relu (n) }> (s, x) }""",
        {"w": (8, 8)}, 5 * 3 * 8 * 8,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTED)
def test_what_is_outside_groups_is_counted_and_has_a_reason(name: str) -> None:
    body, weights, multiply_adds = COUNTED[name]
    grouping = grouped(body, weights)
    assert [op.flops for op in grouping.loose] == [2 * multiply_adds]
    (part,) = account_for(grouping)
    assert (part.grouped, part.multiply_adds, part.share) == (False, multiply_adds, 1.0)
    assert part.reason.startswith(f"{grouping.loose[0].op_type}: ")


def test_groups_and_the_rest_add_up_to_all() -> None:
    body = """n (float[1, 32, 8, 8] x) => (float[1, 32, 8, 8] y, float[1, 3, 8, 8] b, float[1, 1, 16] h) {
        a = Conv (x, c)  b = Conv (x, d)  y = Add (a, x)
        t = Reshape (b, shape)  g, h = RNN <hidden_size = 16> (t, w, r)
    }"""
    weights = {
        "c": (32, 32, 1, 1),
        "d": (3, 32, 1, 1),
        "w": (1, 16, 24),
        "r": (1, 16, 16),
        "shape": np.array([8, 1, 24]),
    }
    graph = from_text(body, weights)
    grouping = groups_from_model(graph, sample_shapes(graph))
    parts = account_for(grouping)
    assert [part.multiply_adds for part in parts] == [32 * 32 * 64, 32 * 3 * 64, 8 * 16 * (24 + 16)]
    assert [part.grouped for part in parts] == [True, True, False]
    assert [part.reason for part in parts] == [
        "",
        "fp8: 3 channels are not more than 16",
        "RNN: recurrent: TensorRT has no 8-bit kernels for it",
    ]
    assert sum(part.share for part in parts) == pytest.approx(1.0)
    assert 2 * sum(part.multiply_adds for part in parts) == grouping.flops


def test_a_loop_whose_shapes_are_unknown_is_said_to_be_uncounted() -> None:
    body = """n (float[N, 32] x) => (float[N, 32] y) { a = MatMul (x, w)
        b = Loop (trips, yes, a) <body = t (int64 i, bool c, float[N, 32] h) => (bool c2, float[N, 32] h2)
            { c2 = Identity (c) h2 = MatMul (h, w) }>
        y = Relu (b) }"""
    grouping = grouped(body, {"w": (32, 32), "trips": np.array(5), "yes": np.array(True)})
    first, loop = account_for(grouping)
    assert (first.multiply_adds, loop.grouped, loop.multiply_adds) == (32 * 32, False, 0)
    assert "1 products inside are not counted" in loop.reason


def test_what_a_branch_holds_is_counted() -> None:
    body = """n (float[2, 32] x) => (float[2, 32] y) { s = ReduceSum<keepdims = 0> (x)  c = Greater (s, zero)
        b = If (c) <then_branch = t () => (float[2, 32] p) { p = MatMul (x, w) },
            else_branch = e () => (float[2, 32] q) { q = Relu (x) }>
        y = Relu (b) }"""
    (part,) = account_for(grouped(body, {"w": (32, 32), "zero": np.zeros((), np.float32)}))
    assert (part.multiply_adds, part.reason) == (
        2 * 32 * 32,
        "If: control flow: it runs in high precision, untouched",
    )


def test_rules_are_told_once_each_and_what_the_model_forbids_is_none() -> None:
    text = "g (float[N,13] x) => (float[N,5] y) { h = MatMul(x, v) y = MatMul(h, w) }"
    graph = from_text(text, {"v": (13, 7), "w": (7, 5)})
    assert [rule.partition(",")[0] for rule in rules_of(groups_from_model(graph, {"x": (2, 13)}))] == [
        "NVIDIA Model Optimizer 0.47"
    ]
    assert rules_of(groups_from_model(graph, {"x": (2, 13)}, "none")) == ()
