"""Metrics that are one number for all samples together, not a mean of scores per sample.

A few numbers per sample are kept and the score is a statistic of them all. Its standard error is that of the
bootstrap (Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979): the spread of the statistic over samples
drawn again with replacement, which needs no further inference.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trt_mpq.evaluate.metrics.base import Order, Scores, Statistic, TaskMetric, in_order, nothing_to_score
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.types import Score

_RESAMPLES = 200
"""Efron and Tibshirani's "An Introduction to the Bootstrap" (1993, section 6.4) finds 50 to 200 enough for an error."""
_SEED = 0

Quantities = Callable[[Arrays, Array | None], Scores]


class CorpusAccumulator:
    """Keeps `k` numbers per sample, and makes one score of them all.

    Args:
        name: The metric, for messages.
        quantities: Numbers [n, k] of a batch, from its outputs and labels; raises MetricError.
        statistic: The score of numbers [n, k], n >= 1; finite for every choice of samples.
        check: Raises MetricError if the numbers of all samples have no score.
    """

    def __init__(
        self,
        name: str,
        quantities: Quantities,
        statistic: Statistic,
        check: Callable[[Scores], None],
    ) -> None:
        self._name, self._quantities, self._statistic, self._check = name, quantities, statistic, check
        self._parts: list[Scores] = []

    @property
    def numbers(self) -> Scores | None:
        """Numbers [samples so far, k]; None before the first."""
        return np.concatenate(self._parts) if self._parts else None

    def add(self, outputs: Arrays, labels: Array | None, reference: Arrays | None) -> None:
        """Keep the numbers of a batch; `reference` is not used."""
        self._parts.append(self._quantities(outputs, labels))

    def result(self, order: Order | None = None) -> Score:
        """The statistic and its standard error; raises MetricError if there is none."""
        numbers = self.numbers
        if numbers is None:
            raise nothing_to_score(self._name)
        quantities = in_order(numbers, order)
        self._check(quantities)
        return Score(self._statistic(quantities), bootstrap_error(quantities, self._statistic), len(quantities))


def corpus_metric(
    name: str,
    quantities: Quantities,
    statistic: Statistic,
    check: Callable[[Scores], None],
    *,
    of_classes: bool = False,
) -> TaskMetric:
    """The metric that is `statistic` of the `quantities` of all samples; the rest is as for `CorpusAccumulator`."""
    return TaskMetric(
        name, True, False, lambda: CorpusAccumulator(name, quantities, statistic, check), of_classes,
        statistic=statistic,
    )  # fmt: skip


def bootstrap_error(quantities: Scores, statistic: Statistic) -> float | None:
    """Standard error of `statistic` of `quantities` [n, k], by 200 seeded resamples; None for one sample."""
    n = len(quantities)
    if n < 2:
        return None
    generator = np.random.default_rng(_SEED)
    values = [statistic(quantities[generator.integers(n, size=n)]) for _ in range(_RESAMPLES)]
    return float(np.std(values, ddof=1))


def ratio(quantities: Scores) -> float:
    """Sum of column 0 over the sum of column 1; 0 where that is 0."""
    total, count = quantities.sum(axis=0)
    return float(total / count) if count else 0.0
