"""AWQ: channels of activations scaled so that the weights that matter most are rounded with the least error.

Lin et al. 2023, "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration" (arXiv 2306.00978),
section 3.2. A few input channels carry most of what a layer computes. Row j of a weight is multiplied by s_j, which
makes the rounding error of a channel with a large s_j smaller in relation to it, and channel j of what it is multiplied
with is divided by s_j:

    s_j = (mean |x_j|)^alpha,    alpha = the one of 0, 0.05, ..., 1 with the least error of the layer's outputs

with s divided by sqrt(max s * min s), as in the authors' code, so that neither side leaves FP16. The error is
``|| Q(W s) (x / s) - W x ||^2`` over rows x of the calibration data, in relation to ``|| W x ||^2``, summed over all
layers that read the tensor; where a format quantizes activations too, they are quantized in it. Where no alpha has a
smaller error than 0, the tensor stays as it is. The clipping of the same paper is `weight_scales`.

It is for formats that have weights of few bits and activations of 16, or scales of activations that come with their
blocks; where an activation has one scale for all channels, outliers of it are what costs most: see `smooth`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from trt_mpq.dataset import Samples
from trt_mpq.groups.shapes import bind_shapes, shape_of
from trt_mpq.numerics import FloatArray, activation_scale, fake_quantize_activation, quantize_weight
from trt_mpq.refine.products import in_parts, require_finite, vectors_in_data
from trt_mpq.refine.scalable import Scalable, Scaled, bounded, scalable_tensors, scaled
from trt_mpq.runtime.base import Runtime
from trt_mpq.types import Precision, Progress

_ALPHAS = np.linspace(0.0, 1.0, 21)
"""Exponents that are tried (the authors' n_grid of 20, and 1)."""
_ROWS = 512
"""Rows of a tensor, evenly over all of the data, that errors are measured on, at least where there are as many."""


@dataclass
class _Observed:
    """What was seen of a tensor: rows, and of every channel the sum of magnitudes and the largest.

    The rows are those at multiples of `step`, which doubles when they become many, so that they are the same whatever
    portions they come in.
    """

    sums: NDArray[np.float64]
    largest: FloatArray
    seen: int = 0
    step: int = 1
    kept: list[FloatArray] = field(default_factory=list)

    @classmethod
    def nothing(cls, channels: int) -> _Observed:
        return cls(np.zeros(channels, np.float64), np.zeros(channels, np.float32))

    def add(self, rows: FloatArray) -> None:
        """See more rows, [n, channels]."""
        magnitudes = np.abs(rows)
        self.sums += magnitudes.sum(axis=0, dtype=np.float64)
        self.largest = np.maximum(self.largest, magnitudes.max(axis=0, initial=0.0))
        self.kept.append(rows[-self.seen % self.step :: self.step].copy())
        self.seen += len(rows)
        while sum(map(len, self.kept)) >= 2 * _ROWS:
            self.kept, self.step = [self.rows[::2].copy()], 2 * self.step

    @property
    def rows(self) -> FloatArray:
        """The rows, [n, channels]."""
        return np.concatenate(self.kept)

    @property
    def means(self) -> FloatArray:
        """Mean magnitude of every channel."""
        return (self.sums / max(1, self.seen)).astype(np.float32)


def scale_channels(
    graph: ir.Model,
    shapes: Mapping[str, tuple[int, ...]],
    samples: Samples,
    runtime: Runtime,
    formats: Sequence[Precision],
    stored: Precision,
    batch: int,
    progress: Progress,
) -> Scaled:
    """Scale the channels of every tensor for which that loses less.

    Args:
        graph: Prepared FP32 graph.
        shapes: Tensor name to shape for one sample, see `groups.shapes.bind_shapes`.
        samples: Calibration data.
        runtime: Where the graph runs.
        formats: What weights are quantized to: no format may lose more, and the sum of what they lose, each in relation
            to what it lost before, is the least.
        stored: The 16-bit precision of the graph.
        batch: Samples per run, at most. It changes speed and memory, not the result.
        progress: Told how many tensors are done.

    Raises:
        CalibrationError: A tensor to scale is NaN or infinite.
    """
    found, left = scalable_tensors(bind_shapes(graph, shapes).graph)
    factors, done = [], 0
    for part in in_parts(found, lambda tensors: sum(2 * _ROWS * tensor.channels for tensor in tensors)):
        for tensor, observed in _observed(graph, part, samples, runtime, batch):
            factor = _least_error(tensor, observed, formats, stored)
            if isinstance(factor, str):
                left[tensor.name] = factor
            else:
                factors.append((tensor, factor))
            done += 1
            progress(done, len(found))
    return scaled(graph, factors, left)


def factors_of(means: FloatArray, alpha: float) -> FloatArray:
    """s_j of mean magnitudes, float32 of their shape; 1 for a channel that is always zero."""
    alive = means > 0
    powers = np.where(alive, means, 1.0) ** alpha
    middle = np.sqrt(powers[alive].max() * powers[alive].min()) if alive.any() else 1.0
    return bounded(np.where(alive, powers / middle, 1.0))


def _output_error(
    weights: Sequence[FloatArray],
    rows: FloatArray,
    outputs: Sequence[FloatArray],
    factor: FloatArray,
    amax: float,
    precision: Precision,
    stored: Precision,
) -> float:
    """What layers that read one tensor lose of their outputs: squared error by squared output, summed over layers.

    Args:
        weights: Theirs, each float32 [outputs, channels].
        rows: What they read, float32 [n, channels].
        outputs: What they make of it in FP32, each float32 [n, outputs].
        factor: s, float32 [channels].
        amax: Largest magnitude that the tensor has once it is divided by `factor`.
        precision: What weights are quantized to, and activations if it has scales for them.
        stored: The 16-bit precision of the graph.
    """
    divided, multiplied = rows / factor, [weight * factor for weight in weights]
    if precision.spec.activations is not None:
        divided = fake_quantize_activation(divided, activation_scale(amax, precision, stored), precision)
    largest = max(float(np.abs(weight).max(initial=0.0)) for weight in multiplied)
    total = 0.0
    for weight, exact in zip(multiplied, outputs, strict=True):
        values = quantize_weight(weight, 0, precision, stored, largest=largest).values
        lost, whole = np.square(divided @ values.T - exact).sum(), np.square(exact).sum()
        total += float(lost / max(whole, np.finfo(np.float32).tiny))
    return total


def _observed(
    graph: ir.Model, tensors: Sequence[Scalable], samples: Samples, runtime: Runtime, batch: int
) -> Iterator[tuple[Scalable, _Observed]]:
    seen = {tensor.name: _Observed.nothing(tensor.channels) for tensor in tensors}
    channels = {(tensor.name, -1): tensor.channels for tensor in tensors}
    for _, found in vectors_in_data(graph, channels, samples, runtime, batch):
        for (name, _), rows in found.items():
            seen[name].add(rows)
    for tensor in tensors:
        require_finite(tensor.name, seen[tensor.name].sums)
        yield tensor, seen[tensor.name]


def _least_error(
    tensor: Scalable, observed: _Observed, formats: Sequence[Precision], stored: Precision
) -> FloatArray | str:
    """The factor with which every format loses no more and all together least, or why it is none."""
    fitting = [precision for precision in formats if _fits(tensor, precision)]
    if not fitting:
        return f"its readers cannot run in {' or '.join(formats)}"
    rows, weights = observed.rows, tensor.weights
    outputs = [rows @ weight.T for weight in weights]

    def errors(factor: FloatArray) -> FloatArray:
        amax = float((observed.largest / factor).max())
        return np.array([_output_error(weights, rows, outputs, factor, amax, p, stored) for p in fitting])

    plain = errors(np.ones(tensor.channels, np.float32))
    unit = np.where(plain > 0, plain, 1.0)
    best, least = None, float((plain / unit).sum())
    for factor in (factors_of(observed.means, alpha) for alpha in _ALPHAS[1:]):
        found = errors(factor)
        if (found <= plain).all() and (total := float((found / unit).sum())) < least:
            best, least = factor, total
    return "no scales lose less" if best is None else best


def _fits(tensor: Scalable, precision: Precision) -> bool:
    """Whether all layers that read the tensor may run in a format, as far as their shapes tell."""
    spec = precision.spec
    return not any(spec.misfit(r.node.op_type, tensor.channels, len(shape_of(r.data))) for r in tensor.readers)
