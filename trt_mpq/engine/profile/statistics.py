"""Distributions of times, and the ratio of two engines with its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trt_mpq.types.engine import Ratio, Spread

_RESAMPLES = 4000


def spread(values: Sequence[float]) -> Spread:
    """Distribution of at least one value, in the unit of `values`."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    return Spread(
        minimum=float(ordered[0]),
        mean=float(ordered.mean()),
        median=float(np.median(ordered)),
        p90=_percentile(ordered, 90),
        p95=_percentile(ordered, 95),
        p99=_percentile(ordered, 99),
        maximum=float(ordered[-1]),
    )


def _percentile(ordered: NDArray[np.float64], p: float) -> float:
    """The percentile `p` of ascending values as trtexec has it.

    It leaves out the ``int((1 - p / 100) * n)`` largest and takes the largest of the rest: a value that was
    observed, never interpolated. trtexec computes in single precision, where 99 of 100 leaves
    out none; so does this.
    """
    count = ordered.size
    left_out = int((np.float32(1) - np.float32(p) / np.float32(100)) * np.float32(count))
    return float(ordered[max(count - 1 - left_out, 0)])


def ratio(
    subject: str,
    baseline: str,
    subject_rounds: Sequence[float],
    baseline_rounds: Sequence[float],
    seed: int,
    confidence: float = 0.99,
) -> Ratio:
    """How long `subject` takes relative to `baseline`, from a median time of each per round.

    Both ran in every round, minutes apart at most, so clocks and temperature are nearly the same within a round
    and cancel in its ratio. The value is the median over rounds. The interval is a percentile bootstrap over
    rounds. It lies within what was observed, and n rounds enclose the median with a probability of at most
    1 - 2^(1 - n): fewer than eight cannot give 99 %, and the result then says what they give.

    Args:
        subject: Name of the engine.
        baseline: Name of the other.
        subject_rounds: Its times, shape [rounds].
        baseline_rounds: The other's times, shape [rounds], the same rounds.
        seed: Seed of the resampling.
        confidence: Of the interval from `low` to `high`, if there are rounds enough.
    """
    ratios = np.asarray(subject_rounds, dtype=np.float64) / np.asarray(baseline_rounds, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, ratios.size, size=(_RESAMPLES, ratios.size))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.median(ratios[drawn], axis=1), (tail, 1 - tail))
    return Ratio(
        subject=subject,
        baseline=baseline,
        value=float(np.median(ratios)),
        low=float(low),
        high=float(high),
        confidence=min(confidence, 1 - 2.0 ** (1 - ratios.size)),
        rounds=int(ratios.size),
    )
