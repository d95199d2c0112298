"""Quantizer arithmetic in numpy: the definition every other module is checked against.

All formats are symmetric with zero point 0 and saturate. Integers follow
``q = clamp(round_half_even(x / s), qmin, qmax)`` with ``s = amax / qmax``; FP8 is E4M3FN with
``s = amax / 448`` (TensorRT developer guide, "Quantized types"). Scales are float16 or bfloat16 values
stored as float32, because in the typed graph they are initializers of the run's high precision: one plan
then has the same scales in every flavour.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from trt_mpq.errors import CalibrationError
from trt_mpq.types import Precision

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
_SMALLEST_SCALE = {Precision.FP16: np.float32(2.0**-24), Precision.BF16: np.float32(2.0**-126)}
"""Smallest positive scale: one below it would become zero in the typed graph, or have no reciprocal in float32."""


@dataclass(frozen=True)
class QuantizedWeight:
    """A constant as it is stored.

    Attributes:
        codes: Codes in the shape of the weight, in a type of numpy or ml_dtypes.
        scale: float32; a scalar, or one value per index of `axis`.
        axis: The axis with one scale per index; None for one scale.
    """

    codes: CodeArray
    scale: FloatArray
    axis: int | None

    @property
    def values(self) -> FloatArray:
        """What it stands for: codes times scales, as float32 of the weight's shape."""
        return self.codes.astype(np.float32) * _along(self.scale, self.codes.ndim, self.axis)


def quantize_weight(
    content: FloatArray,
    axis: int | None,
    precision: Precision,
    stored: Precision = Precision.FP16,
    *,
    up: BoolArray | None = None,
) -> QuantizedWeight:
    """Quantize a constant with min-max scales.

    Args:
        content: What it holds.
        axis: Axis of its output channels; None for one scale.
        precision: A quantized precision.
        stored: The 16-bit precision of the graph that scales are constants of.
        up: Which elements take the code above instead of the one below, see `codes`; None takes the nearest.
    """
    scale = scale_from_amax(channel_amax(content, axis), precision, stored)
    return QuantizedWeight(codes(content, scale, precision, axis, up=up), scale, axis)


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
    with np.errstate(over="ignore"):
        return values.astype(_HALF_TYPES[stored]).astype(np.float32)
