"""Quantizer arithmetic against references written here, and the laws it must keep."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trt_mpq.errors import CalibrationError
from trt_mpq.numerics import LARGEST as REACH
from trt_mpq.numerics import (
    channel_amax,
    codes,
    fake_quantize,
    quantize_weight,
    round_to_half,
    scale_from_amax,
)
from trt_mpq.types import Precision

INTEGERS = {Precision.INT8: (-128, 127), Precision.INT4: (-8, 7)}
QUANTIZED = (*INTEGERS, Precision.FP8)
LARGEST = {Precision.INT8: 127.0, Precision.INT4: 7.0, Precision.FP8: 448.0}
E4M3 = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
E4M3_CODES = np.flatnonzero(np.isfinite(E4M3)).astype(np.uint8)

amaxes = st.floats(0, 4e5, width=32)
scales = st.integers(1, 0x7BFF).map(lambda bits: np.uint16(bits).view(np.float16).astype(np.float32))
arrays = hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(-1e5, 1e5, width=32))


def nearest_e4m3(ratio: np.float32) -> np.float32:
    """By search among all finite codes: the nearest value, of two equally near ones that with even mantissa."""
    distance = np.abs(E4M3[E4M3_CODES].astype(np.float64) - np.float64(ratio))
    near = E4M3_CODES[distance == distance.min()]
    return E4M3[near[near % 2 == 0][0] if len(near) > 1 else near[0]]


@pytest.mark.parametrize("precision", INTEGERS)
@given(values=arrays, scale=scales)
def test_integer_codes_round_half_to_even_and_saturate(
    precision: Precision, values: np.ndarray, scale: np.float32
) -> None:
    low, high = INTEGERS[precision]
    expected = [min(max(round(float(ratio)), low), high) for ratio in values / scale]
    assert codes(values, np.asarray(scale), precision).astype(int).tolist() == expected


@pytest.mark.parametrize("precision", INTEGERS)
def test_ties_and_ends_of_the_integer_range(precision: Precision) -> None:
    low, high = INTEGERS[precision]
    ratios = np.float32([0.5, 1.5, 2.5, -0.5, -1.5, high + 0.49, high + 0.5, low - 0.5, low - 9, 1e30, -1e30])
    expected = [0, 2, 2, 0, -2, high, high, low, low, high, low]
    assert codes(ratios * 4, np.full((), 4, np.float32), precision).astype(int).tolist() == expected


@given(values=arrays, scale=scales)
def test_fp8_codes_equal_the_cast_and_a_search_among_all_codes(values: np.ndarray, scale: np.float32) -> None:
    stored = codes(values, np.asarray(scale), Precision.FP8)
    ratios = np.clip(values / scale, -448, 448)
    assert stored.dtype == ml_dtypes.float8_e4m3fn
    np.testing.assert_array_equal(stored.view(np.uint8), ratios.astype(ml_dtypes.float8_e4m3fn).view(np.uint8))
    np.testing.assert_array_equal(stored.astype(np.float32), [nearest_e4m3(ratio) for ratio in ratios])


def test_a_quotient_beyond_float32_saturates() -> None:
    tiny = np.float32(2.0**-24)
    assert codes(np.float32([3e38, -3e38]), np.asarray(tiny), Precision.INT8).tolist() == [127, -128]


@pytest.mark.parametrize("precision", QUANTIZED)
@given(amax=amaxes)
def test_scales_are_positive_float16_values_near_the_definition(precision: Precision, amax: float) -> None:
    scale = scale_from_amax(amax, precision)
    assert scale.dtype == np.float32
    assert scale.shape == ()
    assert scale > 0
    assert scale.astype(np.float16).astype(np.float32) == scale
    exact = amax / LARGEST[precision]
    assert -exact * 2**-11 <= scale - exact <= max(exact * 2**-10, 2.0**-24)


@pytest.mark.parametrize("precision", INTEGERS)
@given(amax=amaxes, fractions=hnp.arrays(np.float32, 30, elements=st.floats(-1, 1, width=32)))
def test_integer_error_is_at_most_half_a_step_within_amax(
    precision: Precision, amax: float, fractions: np.ndarray
) -> None:
    values = np.append(fractions, np.float32([1, -1])) * np.float32(amax)
    scale = scale_from_amax(amax, precision)
    error = np.abs(values.astype(np.float64) - fake_quantize(values, scale, precision))
    assert error.max() <= 0.5 * scale * (1 + 1e-4)


@given(amax=amaxes, fractions=hnp.arrays(np.float32, 30, elements=st.floats(-1, 1, width=32)))
def test_fp8_error_is_at_most_half_a_unit_in_the_last_place(amax: float, fractions: np.ndarray) -> None:
    values = np.append(fractions, np.float32([1, -1])) * np.float32(amax)
    scale = scale_from_amax(amax, Precision.FP8)
    error = np.abs(values.astype(np.float64) - fake_quantize(values, scale, Precision.FP8))
    assert np.all(error <= np.maximum(np.abs(values) * 2.0**-4, scale * 2.0**-10) * (1 + 1e-4))


@pytest.mark.parametrize("precision", QUANTIZED)
@given(amax=st.floats(2.0**-100, 2.0**120, width=32))
def test_a_bfloat16_scale_is_the_nearest_and_clips_less_than_half_a_step(precision: Precision, amax: float) -> None:
    scale = scale_from_amax(amax, precision, Precision.BF16)
    nearest = np.float32(np.float32(amax) / np.float32(LARGEST[precision])).astype(ml_dtypes.bfloat16)
    assert scale == nearest.astype(np.float32)
    assert amax / float(scale) - LARGEST[precision] < (16 if precision is Precision.FP8 else 0.5)


@pytest.mark.parametrize("precision", QUANTIZED)
def test_a_bfloat16_scale_is_never_subnormal(precision: Precision) -> None:
    for amax in (0.0, 1e-45, 1e-38):
        assert scale_from_amax(amax, precision, Precision.BF16) == 2.0**-126


def test_a_subnormal_scale_does_not_clip() -> None:
    """The nearest float16 to 1.4 * 2^-24 is 2^-24, which would clip the largest value by 28 %."""
    amax = 127 * 1.4 * 2.0**-24
    assert scale_from_amax(amax, Precision.INT8) == 2.0**-23


@pytest.mark.parametrize("precision", QUANTIZED)
def test_an_all_zero_tensor_gets_the_smallest_scale(precision: Precision) -> None:
    assert scale_from_amax(0.0, precision) == 2.0**-24
    assert not quantize_weight(np.zeros((2, 3), np.float32), 0, precision).values.any()


@pytest.mark.parametrize("amax", [float("nan"), float("inf"), -1.0])
def test_amax_that_is_no_magnitude_is_refused(amax: float) -> None:
    with pytest.raises(CalibrationError, match="amax must be finite and not negative"):
        scale_from_amax(np.float32([1.0, amax]), Precision.INT8)


@pytest.mark.parametrize("precision", QUANTIZED)
def test_amax_beyond_the_float16_range_of_scales_is_refused(precision: Precision) -> None:
    largest = 65504 * LARGEST[precision]
    assert scale_from_amax(largest, precision) == 65504
    with pytest.raises(CalibrationError, match=f"too large for a scale in fp16 for {precision}"):
        scale_from_amax(largest * 1.01, precision)


@pytest.mark.parametrize("precision", QUANTIZED)
@pytest.mark.parametrize("axis", [None, 0, 1, 3])
def test_weights_are_quantized_per_channel_of_the_axis(precision: Precision, axis: int | None) -> None:
    random = np.random.default_rng(3)
    weights = (random.standard_normal((4, 6, 3, 2)) * np.exp(random.uniform(-3, 3, (4, 6, 1, 2)))).astype(np.float32)
    result = quantize_weight(weights, axis, precision).values
    if axis is None:
        channels, results = [weights], [result]
    else:
        channels, results = list(np.moveaxis(weights, axis, 0)), list(np.moveaxis(result, axis, 0))
    assert channel_amax(weights, axis).ravel().tolist() == [np.abs(channel).max() for channel in channels]
    for channel, quantized in zip(channels, results, strict=True):
        scale = scale_from_amax(np.abs(channel).max(), precision)
        np.testing.assert_array_equal(quantized, fake_quantize(channel, scale, precision))


@given(values=hnp.arrays(np.float32, 20, elements=st.floats(-65519, 65519, width=32)))
def test_rounding_to_half_is_the_nearest_float16(values: np.ndarray) -> None:
    rounded = round_to_half(values)
    assert rounded.dtype == np.float32
    np.testing.assert_array_equal(rounded, [float(np.float16(value)) for value in values])


def test_rounding_to_half_overflows_to_infinity() -> None:
    assert round_to_half(np.float32([65504, 65519.996, 65520, -7e4])).tolist() == [65504, 65504, np.inf, -np.inf]


@given(bits=hnp.arrays(np.uint32, 20, elements=st.integers(0, 0x7F7FFFFF)), sign=st.sampled_from([0, 1 << 31]))
def test_rounding_to_bfloat16_drops_the_low_half_of_the_bits_to_nearest_even(bits: np.ndarray, sign: int) -> None:
    expected = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000) | np.uint32(sign)
    rounded = round_to_half((bits | np.uint32(sign)).view(np.float32), Precision.BF16)
    np.testing.assert_array_equal(rounded.view(np.uint32), expected)


def test_the_largest_numbers_are_those_before_infinity() -> None:
    for precision, dtype in ((Precision.FP16, np.float16), (Precision.BF16, ml_dtypes.bfloat16)):
        largest = np.array(REACH[precision], dtype)
        assert float(largest) == REACH[precision]
        following = (largest.view(np.uint16) + np.uint16(1)).view(dtype)
        assert np.isinf(following.astype(np.float32))


@pytest.mark.parametrize("precision", QUANTIZED)
@given(st.lists(st.floats(-600, 600, width=32), min_size=1, max_size=20))
def test_the_directions_choose_between_the_codes_around_a_value(precision, values):
    """Against a search through everything that the type can hold."""
    low, high = INTEGERS.get(precision, (0, 0))
    grid = np.sort(E4M3[np.isfinite(E4M3)]) if precision is Precision.FP8 else np.arange(low, high + 1)
    x = np.array(values, np.float32)
    down = np.zeros(x.shape, bool)
    below, above = (codes(x, np.float32(1.0), precision, up=up).astype(np.float32) for up in (down, ~down))
    for value, low, high in zip(x, below, above, strict=True):
        assert low == (grid[grid <= value].max() if value >= grid[0] else grid[0])
        assert high == (grid[grid > value].min() if grid[0] <= value < grid[-1] else low)
    nearest = codes(x, np.float32(1.0), precision).astype(np.float32)
    assert np.all((nearest == below) | (nearest == above))


def test_the_direction_is_taken_per_element_and_channel():
    weights = np.array([[0.3, -0.3, 1.27], [0.6, -0.6, 2.54]], np.float32)
    up = np.array([[True, False, False], [False, True, True]])
    scale = np.array([0.25, 0.5], np.float32)
    found = codes(weights, scale, Precision.INT8, 0, up=up)
    np.testing.assert_array_equal(found, [[2, -2, 5], [1, -1, 6]])
