"""The typed model or its engine against FP32: Polygraphy's comparison and our own error figures.

Polygraphy's L2 is absolute and its PSNR uses an odd peak, so signal-to-quantization-noise ratio,
cosine and largest error are computed here, from the same outputs Polygraphy compared.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trt_mpq.dataset import Samples
from trt_mpq.dataset.chunks import Chunk, chunks
from trt_mpq.runtime.base import Array, Arrays, Session
from trt_mpq.runtime.polygraphy import compare_runs
from trt_mpq.types import Comparison, OutputComparison

_COMPARED_SAMPLES = 64
_ABSOLUTE_TOLERANCE = 0.1
_RELATIVE_TOLERANCE = 0.1
_LARGEST = float(np.finfo(np.float32).max)
"""Stands for NaN and infinity, so that every figure is a number."""


def compare_models(
    fp32: Path, tested: Path | Session, samples: Samples, batch: int, limit: int = _COMPARED_SAMPLES
) -> Comparison:
    """Run both through Polygraphy on the first `limit` samples, `batch` at a time.

    Args:
        fp32: The original ONNX file, which runs in ONNX Runtime.
        tested: An ONNX file, or a loaded engine.
        samples: What to run.
        batch: Samples per run.
        limit: Samples to compare, at most.

    Raises:
        RuntimeFailure: One of the models could not run.
    """
    compared = samples.take(limit)
    portions = list(chunks(compared, batch))
    runs = compare_runs(fp32, tested, [chunk.feeds for chunk in portions], _ABSOLUTE_TOLERANCE, _RELATIVE_TOLERANCE)
    return Comparison(
        samples=compared.count,
        absolute_tolerance=_ABSOLUTE_TOLERANCE,
        relative_tolerance=_RELATIVE_TOLERANCE,
        outputs=tuple(
            _compare(name, _joined(portions, runs.reference, name), _joined(portions, runs.tested, name), passed)
            for name, passed in runs.passed.items()
        ),
    )


def sqnr_db(reference: Array, tested: Array) -> float | None:
    """Signal-to-quantization-noise ratio in decibels, ``10 log10(sum r^2 / sum (r - t)^2)``; None if bit-equal.

    Like the other figures, it leaves out where the reference is NaN or infinite, and takes the largest float32
    for what is so only in `tested`.
    """
    exact, given = _paired(reference, tested)
    noise = float(np.sum((exact - given) ** 2))
    signal = float(np.sum(exact**2))
    if noise == 0:
        return None
    return float(10 * np.log10(max(signal, np.finfo(np.float64).tiny) / noise))


def _paired(reference: Array, tested: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    known = np.isfinite(reference)
    exact, given = reference[known].astype(np.float64), tested[known].astype(np.float64)
    return exact, np.nan_to_num(given, nan=_LARGEST, posinf=_LARGEST, neginf=-_LARGEST)


def _compare(name: str, reference: Array, tested: Array, passed: bool) -> OutputComparison:
    exact, given = _paired(reference, tested)
    return OutputComparison(
        output=name,
        sqnr_db=sqnr_db(reference, tested),
        cosine=_cosine(exact, given),
        max_abs_error=float(np.abs(exact - given).max(initial=0.0)),
        passed=passed,
    )


def _cosine(exact: NDArray[np.float64], given: NDArray[np.float64]) -> float:
    """Cosine of the angle between both as vectors; 1 if both are zero."""
    norm = float(np.linalg.norm(exact) * np.linalg.norm(given))
    if norm == 0:
        return float(not exact.any() and not given.any())
    return float(exact @ given) / norm


def _joined(portions: list[Chunk], runs: tuple[Arrays, ...], name: str) -> Array:
    """One output for all samples as one vector."""
    return np.concatenate([chunk.cut(run[name]).ravel() for chunk, run in zip(portions, runs, strict=True)])
