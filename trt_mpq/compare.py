"""The typed model against FP32: Polygraphy's comparison and our own error figures.

Polygraphy's L2 is absolute and its PSNR uses an odd peak, so signal-to-quantization-noise ratio,
cosine and largest error are computed here, from the same outputs Polygraphy compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trt_mpq.dataset import Samples, pad_batch
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.runtime.polygraphy import compare_runs
from trt_mpq.types import Comparison, OutputComparison

ABSOLUTE_TOLERANCE = 0.1
RELATIVE_TOLERANCE = 0.1


def compare_models(fp32: Path, typed: Path, samples: Samples, batch: int, limit: int) -> Comparison:
    """Run both files through Polygraphy on the first `limit` samples, `batch` at a time.

    Raises:
        RuntimeFailure: One of the models could not run.
    """
    count = min(limit, samples.count)
    feeds = [pad_batch(b, batch).feeds for b in samples.batches(batch, limit=count)]
    runs = compare_runs(fp32, typed, feeds, ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE)
    names = tuple(runs.reference[0])
    return Comparison(
        samples=count,
        absolute_tolerance=ABSOLUTE_TOLERANCE,
        relative_tolerance=RELATIVE_TOLERANCE,
        outputs=tuple(
            _compare(name, _joined(runs.reference, name, count), _joined(runs.tested, name, count), runs.passed[name])
            for name in names
        ),
    )


def sqnr_db(reference: Array, tested: Array) -> float | None:
    """Signal-to-quantization-noise ratio in decibels, ``10 log10(sum r^2 / sum (r - t)^2)``; None if bit-equal."""
    exact = reference.astype(np.float64)
    noise = float(np.sum((exact - tested.astype(np.float64)) ** 2))
    signal = float(np.sum(exact**2))
    if noise == 0:
        return None
    return float(10 * np.log10(max(signal, np.finfo(np.float64).tiny) / noise))


def cosine(reference: Array, tested: Array) -> float:
    """Cosine of the angle between both arrays as vectors; 1 if both are zero."""
    a, b = reference.astype(np.float64).ravel(), tested.astype(np.float64).ravel()
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    if norm == 0:
        return float(not a.any() and not b.any())
    return float(a @ b) / norm


def _compare(name: str, reference: Array, tested: Array, passed: bool) -> OutputComparison:
    return OutputComparison(
        output=name,
        sqnr_db=sqnr_db(reference, tested),
        cosine=cosine(reference, tested),
        max_abs_error=float(np.abs(reference.astype(np.float64) - tested).max()),
        passed=passed,
    )


def _joined(runs: tuple[Arrays, ...], name: str, count: int) -> Array:
    return np.concatenate(list(_values(runs, name)))[:count]


def _values(runs: tuple[Arrays, ...], name: str) -> Iterator[Array]:
    for run in runs:
        yield run[name]
