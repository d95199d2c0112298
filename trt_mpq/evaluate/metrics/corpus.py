"""Metrics that are one number for all samples together, not a mean of scores per sample.

A few numbers per sample are kept and the score is a statistic of them all. Its standard error is that of the
bootstrap (Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979): the spread of the statistic over samples
drawn again with replacement, which needs no further inference.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trt_mpq.evaluate.metrics.base import PerSample, SampleAccumulator, Scores, TaskMetric
from trt_mpq.types import Score

_RESAMPLES = 200
"""Efron and Tibshirani's "An Introduction to the Bootstrap" (1993, section 6.4) finds 50 to 200 enough for an error."""
_SEED = 0


def corpus_metric(
    name: str,
    quantities: PerSample,
    statistic: Callable[[Scores], float],
    check: Callable[[Scores], None],
    *,
    of_classes: bool = False,
) -> TaskMetric:
    """The metric that is one statistic of all samples, and needs labels.

    Args:
        name: Its name.
        quantities: Numbers [n, k] of a batch.
        statistic: The score of numbers [n, k], n >= 1; finite for every choice of samples.
        check: Raises MetricError if the numbers of all samples have no score.
        of_classes: As of `TaskMetric`.
    """

    def score(numbers: Scores) -> Score:
        check(numbers)
        return Score(statistic(numbers), _bootstrap_error(numbers, statistic), len(numbers))

    return TaskMetric(
        name, True, False, lambda: SampleAccumulator(name, quantities, score), of_classes, statistic=statistic
    )


def ratio(quantities: Scores) -> float:
    """Sum of column 0 over the sum of column 1; 0 where that is 0."""
    total, count = quantities.sum(axis=0)
    return float(total / count) if count else 0.0


def _bootstrap_error(quantities: Scores, statistic: Callable[[Scores], float]) -> float | None:
    """Standard error of `statistic` of `quantities` [n, k], by 200 seeded resamples; None for one sample."""
    n = len(quantities)
    if n < 2:
        return None
    generator = np.random.default_rng(_SEED)
    values = [statistic(quantities[generator.integers(n, size=n)]) for _ in range(_RESAMPLES)]
    return float(np.std(values, ddof=1))
