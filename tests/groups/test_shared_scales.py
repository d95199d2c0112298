"""Tensors that must have one scale."""

from __future__ import annotations

import numpy as np
import pytest

from tests.groups.graphs import grouped

TWO_CONVS = {"w": (4, 4, 1, 1), "v": (4, 4, 1, 1)}


@pytest.mark.parametrize(
    "between",
    [
        "MaxPool<kernel_shape=[1,1]>(r)",
        "Transpose<perm=[0,1,3,2]>(r)",
        "Identity(r)",
        "Slice(r, zeros, fives)",
        "Gather<axis=3>(r, fives)",
        'Pad<mode="reflect">(r, pads)',
        "Pad(r, pads)",
        "Pad(r, pads, zero)",
    ],
)
def test_both_sides_of_a_move_share_a_scale(between: str) -> None:
    assert _scales(between) == (("r", "m"),)


@pytest.mark.parametrize(
    "between", ["Relu(r)", "Pad(r, pads, one)", "AveragePool<kernel_shape=[1,1]>(r)", "Neg(r)", "Gather(r, i)"]
)
def test_both_sides_of_arithmetic_do_not(between: str) -> None:
    assert _scales(between) == ()


def _scales(between: str) -> tuple[tuple[str, ...], ...]:
    body = f"""g (float[N,4,6,6] x, int64[4] i) => (float y) {{
        a = Conv(x, w) r = Relu(a) m = {between} y = Conv(m, v) }}"""
    constants = {
        "zeros": np.zeros(4, np.int64),
        "fives": np.array([1, 4, 5, 5]),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "zero": np.float32(0),
        "one": np.float32(1),
    }
    return grouped(body, {**TWO_CONVS, **{k: np.asarray(v) for k, v in constants.items()}}).shared_scales


def test_concat_ties_all_operands_and_chains_of_moves_join() -> None:
    body = """g (float[N,4,6,6] x) => (float y, float z) {
        a = Conv(x, w) b = Conv(x, v) c = Concat<axis=1>(a, b, k)
        p = MaxPool<kernel_shape=[2,2]>(c) y = Conv(p, u) q = MaxPool<kernel_shape=[2,2]>(x) z = Neg(q) }"""
    weights = {**TWO_CONVS, "k": (1, 4, 6, 6), "u": (4, 12, 1, 1)}
    assert grouped(body, weights).shared_scales == (("a", "b", "c", "p"), ("x", "q"))


def test_sets_without_a_quantized_tensor_are_left_out() -> None:
    body = "g (float[N,4] x) => (float y) { r = Relu(x) t = Transpose(r) y = Neg(t) }"
    assert grouped(body, {}).shared_scales == ()
