"""The typed model or its engine against FP32: Polygraphy's verdict and our own error figures.

Polygraphy runs both and judges every output by its signal-to-noise ratio. Its other figures depend on the unit of the
output, so cosine and largest error are computed here, from the same outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trt_mpq.dataset import Samples
from trt_mpq.dataset.chunks import Chunk, chunks
from trt_mpq.errors import ComparisonFailed, RuntimeFailure, SettingsError
from trt_mpq.runtime.base import Array, Arrays, Session
from trt_mpq.runtime.polygraphy import have_enough_snr, run_both
from trt_mpq.types import Comparison, OutputComparison

_COMPARED_SAMPLES = 64
_LARGEST = float(np.finfo(np.float32).max)
"""Stands for NaN and infinity, so that every figure is a number."""


def compare_models(
    fp32: Path,
    tested: Path | Session,
    samples: Samples,
    batch: int,
    required_db: Mapping[str, float],
    limit: int = _COMPARED_SAMPLES,
) -> Comparison:
    """Run both through Polygraphy on the first `limit` samples, `batch` at a time.

    Args:
        fp32: The original ONNX file, which runs in ONNX Runtime.
        tested: An ONNX file, or a loaded engine.
        samples: What to run.
        batch: Samples per run.
        required_db: What is compared, to the signal-to-noise ratio that it needs to pass, in decibels. Of an engine it
            is what it gives, of a file any tensor.
        limit: Samples to compare, at most.

    Raises:
        RuntimeFailure: One of the models could not run, or they give outputs of different sizes.
    """
    compared, file = samples.take(limit), tested.name if isinstance(tested, Path) else ""
    portions = list(chunks(compared, batch))
    names = tuple(name for name in required_db if isinstance(tested, Path) or name in tested.output_names)
    if not names:
        return Comparison(compared.count, (), file)
    reference, given = run_both(fp32, tested, [chunk.feeds for chunk in portions], names)
    pairs = {name: _pair(name, _joined(portions, reference, name), _joined(portions, given, name)) for name in names}
    exact, tested_values = ({name: pair[side] for name, pair in pairs.items()} for side in (0, 1))
    passed = have_enough_snr(exact, tested_values, {name: required_db[name] for name in names})
    outputs = tuple(_compare(name, *pairs[name], required_db[name], passed[name]) for name in names)
    return Comparison(compared.count, outputs, file)


def require_passed(comparison: Comparison, what: str) -> None:
    """Raise ComparisonFailed, naming the outputs of `what` that are too far from FP32, if there are any."""
    if comparison.failed:
        raise ComparisonFailed(
            f"the comparison of {what} with FP32 failed ({'; '.join(map(str, comparison.failed))}): ask for more with "
            "--target-accuracy or for another --metric, or for less with --comparison-snr"
        )


def required_snr_db(least_db: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """The signal-to-noise ratio that each of the outputs `names` needs to pass; in `least_db`, "" is for all others.

    Raises:
        SettingsError: There is one for an output that is not compared.
    """
    if unknown := next((name for name in least_db if name and name not in names), None):
        raise SettingsError(f"comparison_snr: no output {unknown!r} is compared, of the model are {', '.join(names)}")
    return {name: least_db.get(name, least_db[""]) for name in names}


def _pair(name: str, reference: Array, tested: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if reference.shape != tested.shape:
        raise RuntimeFailure(
            f"output {name!r} has {reference.size} elements in FP32 and {tested.size} in what is compared with it: "
            "name the tensors that count with --outputs"
        )
    return _paired(reference, tested)


def sqnr_db(reference: Array, tested: Array) -> float | None:
    """Signal-to-quantization-noise ratio in decibels, ``10 log10(sum r^2 / sum (r - t)^2)``; None if bit-equal.

    Like the other figures, it leaves out where the reference is NaN or infinite, and takes the largest float32
    for what is so only in `tested`.
    """
    return _sqnr_db(*_paired(reference, tested))


def _sqnr_db(exact: NDArray[np.float64], given: NDArray[np.float64]) -> float | None:
    noise = float(np.sum((exact - given) ** 2))
    signal = float(np.sum(exact**2))
    if noise == 0:
        return None
    return float(10 * np.log10(max(signal, np.finfo(np.float64).tiny) / noise))


def _paired(reference: Array, tested: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    known = np.isfinite(reference)
    exact, given = reference[known].astype(np.float64), tested[known].astype(np.float64)
    return exact, np.nan_to_num(given, nan=_LARGEST, posinf=_LARGEST, neginf=-_LARGEST)


def _compare(
    name: str, exact: NDArray[np.float64], given: NDArray[np.float64], required_db: float, passed: bool
) -> OutputComparison:
    return OutputComparison(
        output=name,
        sqnr_db=_sqnr_db(exact, given),
        cosine=_cosine(exact, given),
        max_abs_error=float(np.abs(exact - given).max(initial=0.0)),
        required_db=required_db,
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
    parts = (chunk.by_sample({name: run[name]})[name] for chunk, run in zip(portions, runs, strict=True))
    return np.concatenate([part.ravel() for part in parts])
