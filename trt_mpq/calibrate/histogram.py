"""Histograms of magnitudes, and the methods that choose a clipping magnitude (amax) from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trt_mpq.numerics import LARGEST, fake_quantize, scale_from_amax
from trt_mpq.types import Precision

_BINS = 4096
"""Bins per histogram: 32 for one INT8 step over the full range, so the error within a bin does not matter."""
_BLOCK = 1 << 15
"""Values that are counted at once: what is computed of them stays in the cache, which takes half the time."""
_COARSE_BINS = 64
_PERCENTILE = 99.99
"""Share of values, in percent, that the `percentile` method keeps unclipped."""

_ENTROPY_KEPT = 0.9
_CANDIDATES = 128
"""Clipping points that `mse` and `entropy` compare."""


@dataclass
class Histogram:
    """Counts of ``|x|`` in equal bins over ``[0, magnitude]``; exact integers, so order does not matter."""

    magnitude: float
    counts: NDArray[np.int64]

    @classmethod
    def empty(cls, magnitude: float) -> Histogram:
        """A histogram without observations."""
        return cls(magnitude, np.zeros(_BINS, dtype=np.int64))

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the magnitudes of `values`, any shape; what lies above `magnitude` counts as the last bin."""
        if self.magnitude > 0:
            flat = values.ravel()
            for start in range(0, flat.size, _BLOCK):
                position = np.abs(flat[start : start + _BLOCK])
                position /= np.float32(self.magnitude)  # first, because _BINS / magnitude overflows for subnormal ones
                position *= np.float32(_BINS)
                self.counts += np.bincount(np.minimum(position.astype(np.int32), _BINS - 1), minlength=_BINS)

    @property
    def centers(self) -> NDArray[np.float32]:
        """Middle of every bin, shape ``(bins,)``."""
        return ((np.arange(_BINS) + 0.5) * (self.magnitude / _BINS)).astype(np.float32)

    def coarse(self) -> tuple[int, ...]:
        """The counts in 64 bins, to be looked at; empty if there are none."""
        return tuple(self.counts.reshape(_COARSE_BINS, -1).sum(axis=1).tolist()) if self.counts.any() else ()


def _minmax_amax(histogram: Histogram, precision: Precision) -> float:
    """The largest magnitude observed: nothing is clipped."""
    return histogram.magnitude


def _percentile_amax(histogram: Histogram, precision: Precision) -> float:
    """The magnitude below which 99.99 percent of all values lie."""
    cumulated = np.cumsum(histogram.counts)
    index = int(np.searchsorted(cumulated, cumulated[-1] * _PERCENTILE / 100))
    return histogram.magnitude * (index + 1) / _BINS


def _mse_amax(histogram: Histogram, precision: Precision) -> float:
    """The clipping point with the least squared error after fake quantization; the widest of equal ones.

    Scales are rounded to FP16 on the way; what is beyond its range can be quantized in a BF16 network only.
    """
    if histogram.magnitude == 0:
        return histogram.magnitude
    stored = Precision.FP16 if histogram.magnitude <= LARGEST[Precision.FP16] else Precision.BF16
    centers, counts = histogram.centers, histogram.counts

    def error(amax: float) -> float:
        difference = fake_quantize(centers, scale_from_amax(amax, precision, stored), precision) - centers
        return float(np.dot(counts, difference.astype(np.float64) ** 2))

    return float(min(histogram.magnitude * np.linspace(1, 1 / _CANDIDATES, _CANDIDATES), key=error))


def _entropy_amax(histogram: Histogram, precision: Precision) -> float:
    """The clipping point with the least KL divergence (Migacz, "8-bit inference with TensorRT", GTC 2017).

    As in NVIDIA's pytorch-quantization (`calib/histogram.py`), the first bin counts no more than the second:
    zeros are exact in every symmetric format, and after a Relu they would outweigh all other values. At most a
    tenth of the rest is clipped: where hardly a bin below the clipping point is occupied, as with 8-bit images,
    everything in the last bin would look like a perfect fit. The method assumes equal steps, so for FP8, whose
    steps grow with the value, it returns the largest magnitude.
    """
    if not precision.codes.even or histogram.magnitude == 0:
        return histogram.magnitude
    levels = int(precision.codes.largest) + 1
    counts = histogram.counts.astype(np.float64)
    counts[0] = counts[1]
    narrowest = max(levels, 1 + int(np.searchsorted(np.cumsum(counts), _ENTROPY_KEPT * counts.sum())))
    ends = np.linspace(_BINS, narrowest, _CANDIDATES).astype(int)
    best = min(ends, key=lambda end: _divergence(counts, int(end), levels))
    return histogram.magnitude * float(best) / _BINS


def _divergence(counts: NDArray[np.float64], end: int, levels: int) -> float:
    reference = counts[:end].copy()
    reference[-1] += counts[end:].sum()
    level = np.minimum(np.arange(end) * levels // end, levels - 1)
    occupied = counts[:end] > 0
    mass = np.bincount(level, weights=counts[:end], minlength=levels)
    width = np.bincount(level, weights=occupied, minlength=levels)
    quantized = np.where(occupied, (mass / np.maximum(width, 1))[level], 0.0)
    p = reference / reference.sum()
    q = np.maximum(quantized / max(quantized.sum(), 1.0), 1e-12)
    inside = p > 0
    return float(np.sum(p[inside] * np.log(p[inside] / q[inside])))


@dataclass(frozen=True)
class Method:
    """A way to choose amax; `needs_histogram` says whether a second pass over the data is needed."""

    amax: Callable[[Histogram, Precision], float]
    needs_histogram: bool


METHODS: Mapping[str, Method] = {
    "minmax": Method(_minmax_amax, needs_histogram=False),
    "percentile": Method(_percentile_amax, needs_histogram=True),
    "mse": Method(_mse_amax, needs_histogram=True),
    "entropy": Method(_entropy_amax, needs_histogram=True),
}
"""Calibration methods by their name on the command line."""
