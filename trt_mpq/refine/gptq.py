"""GPTQ: weights rounded one input channel after the other, each making up for the error of those before.

Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers" (arXiv
2210.17323), algorithm 1. A layer y = W x with W [channels, K] is to lose as little as possible of its outputs,
tr(E H E^T) with E = W_q - W and H the mean of x x^T over the calibration data. With U the upper Cholesky factor of 1/H,
column j is rounded to nearest, and what it lost is handed on to the columns that are still to come (equation 4):

    W[:, k] -= (W[:, j] - W_q[:, j]) / U[j, j] * U[j, k]    for k > j

As in the authors' code, H is damped by a hundredth of its mean diagonal, and columns go in the order of falling H[j, j]
("act-order"), so that what matters most is rounded while there is most left to make up for it. An input that is always
zero has nothing to make up for: its weights are rounded to nearest, where the authors drop them. Scales are given and
stay as they are, so that the order does not mix the blocks they belong to.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_mpq.dataset import Samples
from trt_mpq.emit import Network, RefinedWeights
from trt_mpq.numerics import FloatArray, QuantizedWeight, codes, with_scales
from trt_mpq.refine.products import Product, quantized_products
from trt_mpq.runtime.base import Runtime
from trt_mpq.types import Precision, Progress

_Float = NDArray[np.floating[Any]]
"""float32 or float64: the errors that are handed on are summed in double precision."""

_DAMPING = 0.01
"""Share of the mean of H's diagonal that is added to it (the authors' percdamp)."""
_LAZY = 128
"""Columns after which those further on are brought up to date, in one product (section 3.3, "lazy batch-updates")."""


def round_weights(
    network: Network,
    precision: Precision,
    given: RefinedWeights,
    samples: Samples,
    runtime: Runtime,
    batch: int,
    progress: Progress,
) -> RefinedWeights:
    """The weights of all matrix products that may run in `precision`, rounded for the inputs that they have in FP32.

    The paper takes the inputs that the layers rounded so far give; that costs a pass over the data for every layer.

    Args:
        network: Whose weights.
        precision: What they are rounded to.
        given: Weights whose scales are kept; the others get those that hold their largest magnitudes.
        samples: Calibration data.
        runtime: Where the network runs.
        batch: Samples per run, at most.
        progress: Told how many weights are done.

    Returns:
        (weight, precision) to its codes and scales.

    Raises:
        CalibrationError: A tensor that a product reads is NaN or infinite.
    """
    emitter = network.emitter()

    def quantized(product: Product, content: FloatArray, moments: FloatArray) -> QuantizedWeight:
        known = given.get((product.weight.name, precision))
        scales = (known or emitter.quantized_weight(product.weight, precision)).scales
        steps = product.rows(np.broadcast_to(scales.steps(2), content.shape))
        values = rounded(product.rows(content), steps, moments, precision)
        return with_scales(product.rows(values), scales, precision)

    return quantized_products(network, precision, samples, runtime, batch, progress, quantized)


def rounded(weight: FloatArray, steps: FloatArray, moments: _Float, precision: Precision) -> FloatArray:
    """The values that `weight` is rounded to, codes times scales.

    Args:
        weight: float32 [channels, K].
        steps: Scale of every element, in a shape that broadcasts to that of `weight`.
        moments: Mean of x x^T over the inputs, [K, K], positive semidefinite.
        precision: What is rounded to.

    Returns:
        float32 [channels, K], each element a code of `precision` times its step.

    Raises:
        np.linalg.LinAlgError: `moments` holds NaN or infinity.
    """
    order = np.argsort(-np.diagonal(moments), kind="stable")
    factor = _inverse_factor(moments[np.ix_(order, order)])
    left = weight[:, order].astype(np.float64)
    scales = np.broadcast_to(steps, weight.shape)[:, order]
    result: FloatArray = np.empty(weight.shape, np.float32)
    for start in range(0, len(order), _LAZY):
        block = slice(start, min(start + _LAZY, len(order)))
        result[:, block], errors = _round_block(left[:, block], scales[:, block], factor[block, block], precision)
        left[:, block.stop :] -= errors @ factor[block, block.stop :]
    return result[:, np.argsort(order)]


def output_error(weight: FloatArray, values: FloatArray, moments: _Float) -> float:
    """Mean over the inputs of the squared error of the outputs, summed over channels: tr(E H E^T)."""
    lost = values.astype(np.float64) - weight
    return float(np.einsum("cj,cj->", lost @ moments, lost))


def _round_block(left: _Float, scales: FloatArray, factor: _Float, precision: Precision) -> tuple[FloatArray, _Float]:
    """The columns of one block rounded in order, and their errors in units of the factor's diagonal."""
    result: FloatArray = np.empty(left.shape, np.float32)
    errors = np.empty(left.shape)
    for j in range(left.shape[1]):
        column, scale = left[:, j].astype(np.float32), scales[:, j]
        result[:, j] = codes(column, scale, precision).astype(np.float32) * scale
        errors[:, j] = (left[:, j] - result[:, j]) / factor[j, j]
        left[:, j + 1 :] -= np.outer(errors[:, j], factor[j, j + 1 :])
    return result, errors


def _inverse_factor(moments: _Float) -> _Float:
    """The upper Cholesky factor of the inverse of the damped `moments`."""
    damped = moments.astype(np.float64)
    diagonal = np.diagonal(damped)
    damped[np.diag_indices_from(damped)] = np.where(diagonal == 0, 1, diagonal + _DAMPING * diagonal.mean())
    return np.asarray(np.linalg.cholesky(np.linalg.inv(damped)).T)
