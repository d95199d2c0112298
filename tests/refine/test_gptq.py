"""GPTQ against the method it speeds up, written from its definition, and against nearest rounding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_mpq.numerics import FloatArray, fake_quantize
from trt_mpq.refine.gptq import output_error, rounded
from trt_mpq.types import Precision

INT4, INT8, FP8 = Precision.INT4, Precision.INT8, Precision.FP8
formats = pytest.mark.parametrize("precision", [INT4, INT8, FP8])


def layer(seed: int, channels: int, inputs: int, count: int = 256) -> tuple[FloatArray, FloatArray]:
    """Weights [channels, inputs], and inputs [count, inputs] that depend on each other."""
    random = np.random.default_rng(seed)
    mixing = random.standard_normal((inputs, inputs)) * (random.random(inputs) < 0.5) + np.eye(inputs)
    values = random.standard_normal((count, inputs)) @ mixing.T
    return random.standard_normal((channels, inputs)).astype(np.float32), values.astype(np.float32)


def moments_of(values: FloatArray) -> FloatArray:
    return values.T.astype(np.float64) @ values / len(values)


def steps_of(weight: FloatArray, precision: Precision, block: int | None = None) -> FloatArray:
    """The scale of every element, per channel or per block."""
    size = block or weight.shape[1]
    amax = np.abs(weight).reshape(len(weight), -1, size).max(axis=2)
    return np.repeat((amax / precision.codes.largest).astype(np.float32), size, axis=1)


def by_definition(weight: FloatArray, steps: FloatArray, moments: FloatArray, precision: Precision) -> FloatArray:
    """Optimal brain surgeon, a column at a time (equations 2 and 3 of the paper): the remaining columns move to where
    the error of the outputs is least, given those that were rounded; found by least squares, without any factor."""
    damped = moments + np.diag(np.full(len(moments), 0.01 * np.diagonal(moments).mean()))
    left, result = weight.astype(np.float64), np.empty_like(weight)
    order = list(np.argsort(-np.diagonal(moments), kind="stable"))
    while order:
        j, *rest = order
        result[:, j] = fake_quantize(left[:, j].astype(np.float32), steps[:, j], precision)
        lost = result[:, j] - left[:, j]
        if rest:  # least of (lost, d) H (lost, d)^T over d
            move = np.linalg.solve(damped[np.ix_(rest, rest)], -damped[rest, j])
            left[:, rest] += lost[:, None] * move
        order = rest
    return result


@formats
@pytest.mark.parametrize("block", [None, 8])
def test_it_is_what_moving_all_remaining_weights_to_their_optimum_gives(precision: Precision, block: int) -> None:
    weight, values = layer(0, 12, 40)
    steps, moments = steps_of(weight, precision, block), moments_of(values)
    np.testing.assert_array_equal(
        rounded(weight, steps, moments, precision), by_definition(weight, steps, moments, precision)
    )


def test_blocks_of_columns_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, values = layer(1, 8, 96)
    steps, moments = steps_of(weight, INT4), moments_of(values)
    whole = rounded(weight, steps, moments, INT4)
    for lazy in (1, 7, 96):
        monkeypatch.setattr("trt_mpq.refine.gptq._LAZY", lazy)
        np.testing.assert_array_equal(rounded(weight, steps, moments, INT4), whole)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), channels=st.integers(1, 24), inputs=st.sampled_from((16, 32, 48)))
def test_it_loses_no_more_than_nearest_rounding(seed: int, channels: int, inputs: int) -> None:
    """On the outputs themselves, which is what it is for; a single weight may well be further off."""
    weight, values = layer(seed, channels, inputs)
    steps, moments = steps_of(weight, INT4), moments_of(values)
    found, nearest = rounded(weight, steps, moments, INT4), fake_quantize(weight, steps, INT4)
    lost = {
        name: float(np.square(values @ (w - weight).T).sum()) for name, w in (("gptq", found), ("nearest", nearest))
    }
    assert lost["gptq"] <= lost["nearest"] * 1.05
    np.testing.assert_allclose(output_error(weight, found, moments), lost["gptq"] / len(values), rtol=1e-4)


def test_inputs_that_are_independent_or_zero_leave_nothing_to_make_up_for() -> None:
    weight, _ = layer(2, 6, 16)
    steps = steps_of(weight, INT4)
    for moments in (np.diag(np.linspace(1, 3, 16)), np.zeros((16, 16))):
        np.testing.assert_array_equal(rounded(weight, steps, moments, INT4), fake_quantize(weight, steps, INT4))


@formats
def test_every_value_is_a_code_times_its_step(precision: Precision) -> None:
    weight, values = layer(3, 5, 32)
    steps = steps_of(weight, precision, 16)
    found = rounded(weight, steps, moments_of(values), precision)
    np.testing.assert_array_equal(fake_quantize(found, steps, precision), found)


def test_with_two_inputs_the_second_is_the_best_given_the_first() -> None:
    """Against trying every code."""
    random = np.random.default_rng(4)
    for _ in range(20):
        weight = random.standard_normal((4, 2)).astype(np.float32)
        moments = moments_of(random.standard_normal((64, 2)) @ np.array([[2.0, 1.4], [0.0, 0.5]]))
        damped = moments + 0.01 * np.trace(moments) / 2 * np.eye(2)
        steps = steps_of(weight, INT4)
        found = rounded(weight, steps, moments, INT4)
        first, second = np.argsort(-np.diagonal(moments))
        for channel, values in enumerate(found):
            lost = np.zeros((16, 2))
            lost[:, first] = values[first] - weight[channel, first]
            lost[:, second] = np.arange(-8, 8) * steps[channel, second] - weight[channel, second]
            best = np.einsum("cj,jk,ck->c", lost, damped, lost).argmin() - 8
            assert values[second] == np.float32(best) * steps[channel, second]
