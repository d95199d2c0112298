"""Blocks with scales of their own, against numpy and ml_dtypes written out, one block at a time."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trt_mpq.errors import CalibrationError
from trt_mpq.numerics import (
    activation_scale,
    fake_quantize_activation,
    quantize_weight,
    scale_from_amax,
    tensor_scale_from_amax,
    weight_scales,
    with_scales,
)
from trt_mpq.types import Precision

W8A16, W4A16, NVFP4, INT8 = Precision.W8A16, Precision.W4A16, Precision.NVFP4, Precision.INT8
E2M1 = np.unique(np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float32) + 0.0)
BLOCK = 16

elements = st.one_of(
    st.floats(-(2.0**14), 2.0**14, width=32),
    st.floats(-(2.0**-100), 2.0**-100, width=32),
    st.sampled_from([0.0, -0.0, 2.0**-149, 6.0, 7.0]),
)
rows = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 4), st.integers(1, 4).map(lambda n: n * BLOCK)), elements=elements
)
amaxes = st.floats(2.0**-60, 2.0**60, width=32)


def e4m3(value: np.float32) -> np.float32:
    """The nearest E4M3 value, saturating."""
    return np.float32(np.minimum(value, np.float32(448)).astype(ml_dtypes.float8_e4m3fn))


def e2m1(values: np.ndarray) -> np.ndarray:
    return np.clip(values, -6, 6).astype(ml_dtypes.float4_e2m1fn).astype(np.float32)


def by_hand(row: np.ndarray, tensor_scale: np.float32) -> np.ndarray:
    """NVFP4 of one row of activations, block after block: "double quantization" as IDynamicQuantizeLayer has it."""
    result = np.zeros_like(row)
    for start in range(0, len(row), BLOCK):
        block = row[start : start + BLOCK]
        scale = e4m3(np.abs(block).max() / (np.float32(6) * tensor_scale)) * tensor_scale
        if scale > 0:
            with np.errstate(over="ignore"):
                result[start : start + BLOCK] = e2m1(block / scale) * scale
    return result


@given(values=rows, amax=amaxes)
def test_activations_in_blocks_are_what_the_definition_says(values: np.ndarray, amax: float) -> None:
    scale = activation_scale(amax, NVFP4)
    expected = np.stack([by_hand(row, np.float32(scale)) for row in values])
    np.testing.assert_array_equal(fake_quantize_activation(values, scale, NVFP4), expected)


@given(values=rows)
def test_within_the_calibrated_range_a_block_loses_at_most_a_step_of_its_largest_value(values: np.ndarray) -> None:
    amax = float(np.abs(values).max())
    scale = activation_scale(amax, NVFP4)
    error = np.abs(fake_quantize_activation(values, scale, NVFP4).astype(np.float64) - values).reshape(-1, BLOCK)
    largest = np.abs(values).reshape(-1, BLOCK).max(axis=1)
    # Half the widest step of E2M1 is a sixth of the largest code; the scale itself is off by a sixteenth, or tiny.
    bound = largest / 6 * (1 + 2.0**-4) + 6 * float(scale) * 2.0**-9
    assert np.all(error.max(axis=1) <= bound * (1 + 1e-5))


def test_a_block_of_zeros_is_zero_and_so_is_one_whose_scale_is_too_small() -> None:
    values = np.zeros((3, BLOCK), np.float32)
    values[1, 0], values[2, :] = 1000.0, 1e-4
    assert not fake_quantize_activation(values, activation_scale(1000.0, NVFP4), NVFP4)[[0, 2]].any()
    assert not fake_quantize_activation(values[:1], activation_scale(0.0, NVFP4), NVFP4).any()


def test_a_block_beyond_the_calibrated_range_saturates() -> None:
    values = np.full((1, BLOCK), 50.0, np.float32)
    scale = activation_scale(10.0, NVFP4)
    assert fake_quantize_activation(values, scale, NVFP4).max() == np.float32(6) * np.float32(448) * scale


def test_scales_of_blocks_round_to_subnormal_codes() -> None:
    """A block of a 300,000th of the range has a subnormal scale: 2^-9 or 2^-8 instead of what lies between."""
    scale = activation_scale(6.0 * 448, NVFP4)
    assert scale == 1
    for largest, code in ((6 * 2.0**-9 * 1.4, 2.0**-9), (6 * 2.0**-9 * 1.6, 2.0**-8)):
        values = np.full((1, BLOCK), largest, np.float32)
        expected = e2m1(values / np.float32(code)) * np.float32(code)
        np.testing.assert_array_equal(fake_quantize_activation(values, scale, NVFP4), expected)


@pytest.mark.parametrize("amax", [float("nan"), float("inf"), -1.0])
def test_a_tensor_scale_of_no_magnitude_is_refused(amax: float) -> None:
    with pytest.raises(CalibrationError, match="amax must be finite and not negative"):
        tensor_scale_from_amax(amax, NVFP4)


def test_the_tensor_scale_never_vanishes_nor_overflows() -> None:
    assert tensor_scale_from_amax(0.0, NVFP4) == 2.0**-117
    assert np.isfinite(tensor_scale_from_amax(float(np.finfo(np.float32).max), NVFP4))


@pytest.mark.parametrize("axis", [0, 1])
@given(seed=st.integers(0, 2**16))
def test_weights_of_nvfp4_have_a_scale_per_block_of_what_is_summed_over(axis: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    content = (random.standard_normal((48, 32)) * np.exp(random.normal(0, 3, (48, 32)))).astype(np.float32)
    content[:16, :16] = 0
    found = quantize_weight(content, axis, NVFP4)
    assert found.codes.dtype == ml_dtypes.float4_e2m1fn
    assert found.scales.scale.dtype == ml_dtypes.float8_e4m3fn
    summed = content if axis == 0 else content.T  # summed over along each row
    values = found.values if axis == 0 else found.values.T
    tensor_scale = np.abs(content).max() / np.float32(6 * 448)
    for row, quantized in zip(summed, values, strict=True):
        for start in range(0, len(row), BLOCK):
            block, own = row[start : start + BLOCK], quantized[start : start + BLOCK]
            code = np.maximum(e4m3(np.abs(block).max() / (np.float32(6) * tensor_scale)), np.float32(2.0**-9))
            np.testing.assert_array_equal(own, e2m1(block / (code * tensor_scale)) * (code * tensor_scale))


def test_no_scale_of_a_weight_is_zero_which_tensorrt_refuses() -> None:
    content = np.zeros((32, 4), np.float32)
    content[0, 0] = 1.0
    scales = weight_scales(content, 1, NVFP4)
    assert (scales.scale.astype(np.float32) > 0).all()
    assert (weight_scales(np.zeros((32, 4), np.float32), 1, NVFP4).steps(2) > 0).all()


@pytest.mark.parametrize(("summed", "block"), [(256, 128), (128, 64), (192, 64), (384, 128)])
@pytest.mark.parametrize("axis", [0, 1])
def test_weights_of_4_bit_integers_have_float16_scales_per_block(summed: int, block: int, axis: int) -> None:
    content = np.random.default_rng(0).standard_normal((summed, 6)).astype(np.float32)
    found = quantize_weight(content if axis == 1 else content.T, axis, W4A16)
    assert (found.scales.axis, found.scales.block) == (1 - axis, block)
    values = found.values if axis == 1 else found.values.T
    for start in range(0, summed, block):
        for column in range(6):
            own = content[start : start + block, column]
            scale = scale_from_amax(np.abs(own).max(), W4A16)
            assert scale == np.float16(np.abs(own).max() / np.float32(7))
            expected = np.clip(np.rint(own / scale), -8, 7) * scale
            np.testing.assert_array_equal(values[start : start + block, column], expected)


def test_weights_of_8_bit_integers_alone_are_those_of_int8() -> None:
    content = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    np.testing.assert_array_equal(quantize_weight(content, 1, W8A16).values, quantize_weight(content, 1, INT8).values)


@pytest.mark.parametrize(
    ("shape", "axis", "precision"),
    [
        ((100, 8), 1, W4A16),
        ((64, 8), 1, W4A16),
        ((24, 8), 1, NVFP4),
        ((8, 24), 0, NVFP4),
        ((2, 32, 8), None, NVFP4),
        ((32, 8), None, W4A16),
    ],
)
def test_what_has_no_whole_blocks_is_refused(shape: tuple[int, ...], axis: int | None, precision: Precision) -> None:
    with pytest.raises(ValueError, match=f"no whole blocks of {precision}"):
        quantize_weight(np.ones(shape, np.float32), axis, precision)


@pytest.mark.parametrize("precision", [W4A16, NVFP4])
def test_learned_rounding_takes_the_code_above_or_below(precision: Precision) -> None:
    content = np.random.default_rng(1).standard_normal((128, 4)).astype(np.float32)
    below, above = (
        quantize_weight(content, 1, precision, up=np.full(content.shape, up)).values for up in (False, True)
    )
    nearest = quantize_weight(content, 1, precision).values
    steps = quantize_weight(content, 1, precision).scales.steps(2)
    inside = np.abs(content) <= precision.codes.largest * steps
    assert np.all((below <= content + 1e-6) | ~inside)
    assert np.all((above >= content - 1e-6) | ~inside)
    assert np.all((nearest == below) | (nearest == above))


@given(scale=st.floats(2.0**-10, 2.0**10, width=32))
def test_ties_go_to_the_even_code(scale: float) -> None:
    """Midpoints of E2M1: 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5 go to codes with an even mantissa."""
    ties = (E2M1[1:] + E2M1[:-1]) / 2
    exact = np.float32(np.float32(scale).astype(ml_dtypes.bfloat16))  # so that products are exact
    values = np.concatenate([ties * exact, [6 * exact, -6 * exact]]).astype(np.float32)
    padded = np.zeros((2 * BLOCK, 1), np.float32)
    padded[: len(values), 0] = values[:BLOCK] if len(values) > BLOCK else values
    grid = with_scales(padded, weight_scales(padded, 1, NVFP4), NVFP4)
    steps = grid.scales.steps(2)
    np.testing.assert_array_equal(grid.codes.astype(np.float32), e2m1(padded / steps))
