"""Scales of weights that clip the largest magnitudes where that loses less than it saves.

For every channel, or every block of what is summed over, the ratio r of the magnitude that is mapped onto the largest
code is searched (Lin et al. 2023, "AWQ: Activation-aware Weight Quantization", arXiv 2306.00978, section "weight
clipping"): that which loses least of sum_j h_j (w_j - w_q_j)^2, where h_j is the mean square of the input that w_j is
multiplied with, the diagonal of GPTQ's Hessian. Ties go to the larger ratio.
"""

from __future__ import annotations

import numpy as np

from trt_mpq.dataset import Samples
from trt_mpq.emit import Network, RefinedWeights
from trt_mpq.numerics import FloatArray, QuantizedWeight, WeightScales, clipped_scales, with_scales
from trt_mpq.refine.products import Product, quantized_products
from trt_mpq.runtime.base import Runtime
from trt_mpq.types import Precision, Progress

RATIOS = np.linspace(1.0, 0.5, 21, dtype=np.float32)
"""Shares of the largest magnitude that are tried."""


def clip_weights(
    network: Network, precision: Precision, samples: Samples, runtime: Runtime, batch: int, progress: Progress
) -> RefinedWeights:
    """The weights of all matrix products that may run in `precision`, to nearest with the scales that lose least.

    Args:
        network: Whose weights.
        precision: What they are quantized to.
        samples: Calibration data.
        runtime: Where the network runs in FP32.
        batch: Samples per run, at most.
        progress: Told how many weights are done.

    Returns:
        (weight, precision) to its codes and scales.

    Raises:
        CalibrationError: A tensor that a product reads is NaN or infinite.
    """
    emitter = network.emitter()

    def quantized(product: Product, content: FloatArray, moments: FloatArray) -> QuantizedWeight:
        whole = emitter.quantized_weight(product.weight, precision).scales
        importance = product.rows(np.broadcast_to(np.diagonal(moments), product.rows(content).shape))
        return with_scales(content, best_scales(content, whole, precision, network.grouping.top, importance), precision)

    return quantized_products(network, precision, samples, runtime, batch, progress, quantized)


def best_scales(
    content: FloatArray, whole: WeightScales, precision: Precision, stored: Precision, importance: FloatArray
) -> WeightScales:
    """The scales with which the squared error, weighed by `importance`, is least in every channel or block.

    Args:
        content: A weight.
        whole: The scales that hold its largest magnitudes.
        precision: What it is quantized to.
        stored: The 16-bit precision of the graph that scales are constants of.
        importance: What the squared error of an element counts, in a shape that broadcasts to that of `content`.
    """
    best, least = np.ones(whole.scale.shape, np.float32), np.full(whole.scale.shape, np.inf)
    for ratio in RATIOS:
        scales = clipped_scales(whole, np.full_like(best, ratio), precision, stored)
        lost = np.square(with_scales(content, scales, precision).values - content) * importance
        total = _per_scale(lost, scales)
        best, least = np.where(total < least, ratio, best), np.minimum(total, least)
    return clipped_scales(whole, best, precision, stored)


def _per_scale(lost: FloatArray, scales: WeightScales) -> FloatArray:
    """Sums of what lies like the weight over the elements of each scale."""
    if scales.axis is None or scales.block is None:
        return np.asarray(lost.sum(axis=tuple(a for a in range(lost.ndim) if a != scales.axis)))
    shape = [*lost.shape[: scales.axis], -1, scales.block, *lost.shape[scales.axis + 1 :]]
    return np.asarray(lost.reshape(shape).sum(axis=scales.axis + 1))
