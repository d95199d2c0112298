"""Quantizer arithmetic in numpy: the definition every other module is checked against.

All formats are symmetric with zero point 0 and saturate. Integers follow
``q = clamp(round_half_even(x / s), qmin, qmax)`` with ``s = amax / qmax``; FP8 is E4M3FN with
``s = amax / 448`` (TensorRT developer guide, "Quantized types"). Scales are float16 or bfloat16 values
stored as float32, because in the typed graph they are initializers of the run's high precision: one plan
then has the same scales in every flavour.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from trt_mpq.errors import CalibrationError
from trt_mpq.types import Precision
from trt_mpq.types.formats.fp8 import E4M3

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
CodeArray = NDArray[np.generic]

_HALF_TYPES: dict[Precision, np.dtype[Any]] = {
    Precision.FP16: np.dtype(np.float16),
    Precision.BF16: np.dtype(ml_dtypes.bfloat16),
}
"""The numpy type of each 16-bit precision."""
LARGEST: dict[Precision, float] = {Precision.FP16: 65504.0, Precision.BF16: (2 - 2.0**-7) * 2.0**127}
"""Largest finite number of each 16-bit precision: 65504 in FP16, 3.39e38 in BF16."""
ROUNDING: dict[Precision, float] = {Precision.FP16: 2.0**-11, Precision.BF16: 2.0**-8}
"""By how much of itself each 16-bit precision rounds a number at most."""
VANISHING: dict[Precision, float] = {Precision.FP16: 2.0**-25, Precision.BF16: 2.0**-134}
"""Largest number that each 16-bit precision rounds to zero: half of its smallest one."""
_SMALLEST_NORMAL = {Precision.FP16: np.float32(2.0**-14), Precision.BF16: np.float32(2.0**-126)}
"""Smallest number with full precision."""
LEAST = np.float32(2.0**-126)
"""Least positive float32 with full precision and a finite reciprocal."""
_SMALLEST_SCALE = {Precision.FP16: np.float32(2.0**-24), Precision.BF16: np.float32(2.0**-126)}
"""Smallest positive scale: one below it would become zero in the typed graph, or have no reciprocal in float32."""


@dataclass(frozen=True)
class WeightScales:
    """The scales of a constant.

    Attributes:
        scale: float32, or E4M3 codes where there is a `tensor_scale`; a scalar, one value per index of `axis`, or per
            block along it, in the shape of the weight but for that axis.
        axis: The axis with one scale per index or block; None for one scale.
        block: Elements along `axis` that share a scale; None for one scale per index.
        tensor_scale: What codes of scales are multiplied with, shape ``()``; None where scales are no codes.
    """

    scale: FloatArray | CodeArray
    axis: int | None
    block: int | None = None
    tensor_scale: FloatArray | None = None

    def steps(self, axes: int) -> FloatArray:
        """The scale of every element of a weight with so many axes, in a shape that broadcasts to it."""
        scale = self.scale.astype(np.float32)
        if self.tensor_scale is not None:
            scale = scale * self.tensor_scale
        if self.axis is None or self.block is None:
            return _along(scale, axes, self.axis)
        return np.repeat(scale, self.block, self.axis)


@dataclass(frozen=True)
class QuantizedWeight:
    """A constant as it is stored: codes in its shape, in a type of numpy or ml_dtypes, and their scales."""

    codes: CodeArray
    scales: WeightScales

    @property
    def values(self) -> FloatArray:
        """What it stands for: codes times scales, as float32 of the weight's shape."""
        return self.codes.astype(np.float32) * self.scales.steps(self.codes.ndim)


def quantize_weight(
    content: FloatArray,
    axis: int | None,
    precision: Precision,
    stored: Precision = Precision.FP16,
    *,
    up: BoolArray | None = None,
    largest: float | None = None,
) -> QuantizedWeight:
    """Quantize a constant with min-max scales, see `weight_scales`.

    Args:
        content: What it holds.
        axis: Axis of its output channels; None for one scale.
        precision: A quantized precision.
        stored: The 16-bit precision of the graph that scales are constants of.
        up: Which elements take the code above instead of the one below, see `codes`; None takes the nearest.
        largest: See `weight_scales`.
    """
    return with_scales(content, weight_scales(content, axis, precision, stored, largest), precision, up=up)


def with_scales(
    values: FloatArray, scales: WeightScales, precision: Precision, *, up: BoolArray | None = None
) -> QuantizedWeight:
    """Quantize a constant with given scales, see `codes`."""
    return QuantizedWeight(codes(values, scales.steps(values.ndim), precision, up=up), scales)


def weight_scales(
    content: FloatArray,
    axis: int | None,
    precision: Precision,
    stored: Precision = Precision.FP16,
    largest: float | None = None,
) -> WeightScales:
    """The scales that hold the largest magnitude per channel or per block of what is summed over, as `precision` says.

    Args:
        content: A constant; of two axes where there are blocks.
        axis: Axis of its output channels; None for one scale.
        precision: A quantized precision.
        stored: The 16-bit precision of the graph that scales are constants of.
        largest: Largest magnitude of all constants that share one scale of scales; None for that of `content`.

    Raises:
        ValueError: No whole blocks fit into the constant.
    """
    layout = precision.spec.weights
    if layout is None or not layout.blocks:
        return WeightScales(scale_from_amax(channel_amax(content, axis), precision, stored), axis)
    block = None if axis is None or content.ndim != 2 else layout.block_of(content.shape[1 - axis])
    if axis is None or block is None:
        raise ValueError(
            f"a weight of shape {content.shape}, channels on axis {axis}, has no whole blocks of {precision}"
        )
    amax = block_amax(content, 1 - axis, block)
    if not layout.coded:
        return WeightScales(scale_from_amax(amax, precision, stored), 1 - axis, block)
    tensor_scale = tensor_scale_from_amax(amax.max() if largest is None else largest, precision)
    return WeightScales(_scale_codes(amax, tensor_scale, precision), 1 - axis, block, tensor_scale)


def clipped_scales(
    scales: WeightScales, ratio: FloatArray, precision: Precision, stored: Precision = Precision.FP16
) -> WeightScales:
    """The scales that hold the share `ratio`, in the shape of `scales.scale`, of what `scales` hold."""
    wanted = scales.scale.astype(np.float32) * ratio
    if scales.tensor_scale is None:
        return replace(scales, scale=scale_from_amax(wanted * np.float32(precision.codes.largest), precision, stored))
    return replace(scales, scale=np.clip(wanted, E4M3.tiny, E4M3.largest).astype(np.dtype(E4M3.dtype)))


def block_amax(content: FloatArray, axis: int, block: int) -> FloatArray:
    """Largest magnitude of every block along `axis`, which shrinks to the number of blocks."""
    shape = [*content.shape[:axis], -1, block, *content.shape[axis + 1 :]]
    return np.asarray(np.abs(content).reshape(shape).max(axis=axis + 1))


def activation_scale(amax: float, precision: Precision, stored: Precision = Precision.FP16) -> FloatArray:
    """What an activation of a clipping magnitude is quantized with, shape ``()``: its scale, or that of its scales.

    Raises:
        CalibrationError: See `scale_from_amax` and `tensor_scale_from_amax`.
    """
    in_blocks = precision.spec.activations is not None and precision.spec.activations.blocks
    return tensor_scale_from_amax(amax, precision) if in_blocks else scale_from_amax(amax, precision, stored)


def fake_quantize_activation(values: FloatArray, scale: FloatArray, precision: Precision) -> FloatArray:
    """What a group that runs in `precision` reads of an activation, given its `activation_scale`."""
    in_blocks = precision.spec.activations is not None and precision.spec.activations.blocks
    return fake_quantize_blocks(values, scale, precision) if in_blocks else fake_quantize(values, scale, precision)


def tensor_scale_from_amax(amax: float | FloatArray, precision: Precision) -> FloatArray:
    """The FP32 scale of codes of scales, shape ``()``, that maps the scale of a block that reaches `amax` onto 448.

    It is so large that the least scale of a block still has full precision.

    Raises:
        CalibrationError: `amax` is negative, NaN or infinite.
    """
    value = np.asarray(amax, np.float32)
    if not np.isfinite(value) or value < 0:
        raise CalibrationError(f"amax must be finite and not negative, got {value}")
    return np.asarray(
        np.maximum(value / np.float32(precision.codes.largest * E4M3.largest), LEAST / E4M3.tiny), np.float32
    )


def _scale_codes(amax: FloatArray, tensor_scale: FloatArray, precision: Precision) -> CodeArray:
    """The E4M3 codes of the scales of blocks of a constant: the least positive one where the nearest is 0."""
    ratio = amax / (np.float32(precision.codes.largest) * tensor_scale)
    return np.clip(ratio, E4M3.tiny, E4M3.largest).astype(np.dtype(E4M3.dtype))


def fake_quantize_blocks(values: FloatArray, tensor_scale: FloatArray, precision: Precision) -> FloatArray:
    """What a product reads of an activation whose blocks along the last axis get scales as they come.

    The scale of a block is the E4M3 code nearest to ``amax / (6 * tensor_scale)``, at most 448, times `tensor_scale`
    (IDynamicQuantizeLayer, "double quantization"). A block whose scale rounds to 0 is 0.

    Args:
        values: float32 array whose last axis is a multiple of the block.
        tensor_scale: See `tensor_scale_from_amax`.
        precision: A precision with blocks of activations.
    """
    assert precision.spec.activations is not None
    blocks = values.reshape(-1, precision.spec.activations.blocks[0])
    ratio = np.abs(blocks).max(axis=1, keepdims=True) / (np.float32(precision.codes.largest) * tensor_scale)
    scale = np.minimum(ratio, np.float32(E4M3.largest)).astype(np.dtype(E4M3.dtype)).astype(np.float32) * tensor_scale
    stored = codes(blocks, np.maximum(scale, LEAST), precision).astype(np.float32)
    return np.asarray(stored * scale).reshape(values.shape)


def scale_from_amax(amax: float | FloatArray, precision: Precision, stored: Precision = Precision.FP16) -> FloatArray:
    """The scale that maps `amax` onto the largest code of `precision`.

    Where the nearest number that `stored` holds is subnormal, and so coarse, the next larger one is taken: a scale
    must never clip what lies within `amax` by more than half a step. That also holds for the eight significant bits
    of bfloat16: they move the largest code, 127, by less than half.

    Args:
        amax: Clipping magnitude, a scalar or one value per channel.
        precision: A quantized precision.
        stored: The 16-bit precision of the graph that the scale is a constant of.

    Returns:
        float32 array of the shape of `amax`, positive, exactly representable in `stored`.

    Raises:
        CalibrationError: `amax` is negative, NaN or infinite, or its scale leaves the range of `stored`.
    """
    normal, smallest = _SMALLEST_NORMAL[stored], _SMALLEST_SCALE[stored]
    values = np.asarray(amax, dtype=np.float32)
    if not np.all(np.isfinite(values)) or np.any(values < 0):
        raise CalibrationError(f"amax must be finite and not negative, got {np.ravel(values)[:4]}")
    exact = values / np.float32(precision.codes.largest)
    nearest = round_to_half(exact, stored)
    if not np.all(np.isfinite(nearest)):
        raise CalibrationError(f"amax {float(values.max()):.4g} is too large for a scale in {stored} for {precision}")
    coarse = np.ceil(np.minimum(exact, normal) / smallest) * smallest
    return np.asarray(np.maximum(np.where(exact < normal, coarse, nearest), smallest))


def channel_amax(weights: FloatArray, axis: int | None) -> FloatArray:
    """Largest magnitude of `weights`, per channel of `axis` (shape ``(channels,)``) or overall (shape ``()``)."""
    magnitude = np.abs(weights)
    if axis is None:
        return np.asarray(magnitude.max(), dtype=np.float32)
    others = tuple(i for i in range(weights.ndim) if i != axis)
    return np.asarray(magnitude.max(axis=others), dtype=np.float32)


def _along(scale: FloatArray, ndim: int, axis: int | None) -> FloatArray:
    if axis is None:
        return scale
    shape = [1] * ndim
    shape[axis] = -1
    return scale.reshape(shape)


@cache
def _grid(precision: Precision) -> FloatArray:
    """Everything that a code can stand for, ascending, in units of the scale."""
    kind, bits = np.dtype(precision.codes.dtype), precision.codes.bits
    if precision.codes.even:
        return np.arange(precision.codes.smallest, precision.codes.largest + 1, dtype=np.float32)
    every = np.arange(1 << bits, dtype=np.uint8).view(kind).astype(np.float32) + 0.0  # no negative zero
    return np.unique(every[np.isfinite(every)])


def _neighbours(
    values: FloatArray, scale: FloatArray, precision: Precision, axis: int | None = None
) -> tuple[FloatArray, FloatArray]:
    """What the codes below and above ``values / scale`` stand for, in units of the scale, in the shape of `values`.

    A quotient that is a code is the lower of its two; both are the outermost code where it saturates.
    """
    grid = _grid(precision)
    with np.errstate(over="ignore"):
        ratio = values / _along(scale, values.ndim, axis)
    below = np.clip(np.searchsorted(grid, ratio, side="right") - 1, 0, len(grid) - 1)
    above = np.minimum(below + (ratio >= grid[0]), len(grid) - 1)
    return grid[below], grid[above]


def codes(
    values: FloatArray,
    scale: FloatArray,
    precision: Precision,
    axis: int | None = None,
    *,
    up: BoolArray | None = None,
) -> CodeArray:
    """Quantize `values` to stored codes.

    Args:
        values: float32 array.
        scale: Scalar, or shape ``(values.shape[axis],)``.
        precision: A quantized precision.
        axis: Channel axis of `scale`, None for one scale.
        up: Shape of `values`: which take the code above instead of the one below; None takes the nearest.

    Returns:
        Codes of the type of the precision's `Codes`, in the shape of `values`.
    """
    with np.errstate(over="ignore"):  # a quotient beyond float32 saturates like any other
        ratio = values / _along(scale, values.ndim, axis)
    if up is not None:
        ratio = np.where(up, *_neighbours(values, scale, precision, axis)[::-1])
    clipped: FloatArray = np.clip(ratio, precision.codes.smallest, precision.codes.largest)
    whole = np.rint(clipped).astype(np.int8) if precision.codes.even else clipped
    return whole.astype(np.dtype(precision.codes.dtype), copy=False)


def fake_quantize(
    values: FloatArray,
    scale: FloatArray,
    precision: Precision,
    axis: int | None = None,
    *,
    up: BoolArray | None = None,
) -> FloatArray:
    """Quantize (see `codes`) and dequantize: what the network computes with, as float32 of the shape of `values`."""
    stored = codes(values, scale, precision, axis, up=up).astype(np.float32)
    return stored * _along(scale, values.ndim, axis)


def round_to_half(values: FloatArray, stored: Precision = Precision.FP16) -> FloatArray:
    """The float32 values that a 16-bit tensor can hold; magnitudes beyond become infinite, as on the GPU."""
    return _in_half(values, stored).astype(np.float32)


def constant_in_half(values: FloatArray, stored: Precision = Precision.FP16) -> CodeArray:
    """A constant in a 16-bit type; a single number that would become zero is the smallest that does not.

    Such is the 1e-12 that keeps a division from zero. Where calibration data need it that small, its node does not
    compute in 16 bit (`calibrate.underflow`); where they never come so close, other data still find a guard.
    """
    half = _in_half(values, stored)
    if values.size == 1 and values.any() and not half.any():
        return _in_half(np.copysign(np.float32(2 * VANISHING[stored]), values), stored)
    return half


def _in_half(values: FloatArray, stored: Precision) -> CodeArray:
    with np.errstate(over="ignore"):
        return values.astype(_HALF_TYPES[stored])
