"""How far the loss of a plan is known from the samples that it was judged on.

The interval is paired, sample by sample: two models that err on the same images differ by far less than either is off
the truth. For means it is the normal one, for other statistics the basic bootstrap's (Davison and Hinkley, "Bootstrap
Methods and their Application", 1997, 5.2); where no sample tells the models apart, the rule of three bounds the loss
(Hanley and Lippman-Hand, JAMA 249, 1983).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trt_mpq.evaluate.metrics import Scores, TaskMetric
from trt_mpq.types import Score

_Z = 1.959964
"""Of 95 %."""
_RULE_OF_THREE = 3.0
_RESAMPLES = 400


@dataclass(frozen=True)
class LossInterval:
    """What a plan loses of the FP32 score, positive if it is worse, with its 95 % interval, on `samples`."""

    loss: float
    low: float
    high: float
    samples: int

    @property
    def half_width(self) -> float:
        """How far the loss may be off."""
        return max(self.high - self.loss, self.loss - self.low)

    def samples_to_resolve(self, allowed: float) -> int | None:
        """Samples of this kind whose interval would be as narrow as the loss that is `allowed`; None if these do."""
        if allowed <= 0 or self.half_width <= allowed:
            return None
        return math.ceil(self.samples * (self.half_width / allowed) ** 2)


@dataclass(frozen=True)
class Holdout:
    """Scores on a set that nothing was chosen on: of FP32, of the delivered plan, and what that should have had."""

    source: str
    fp32: Score
    plan: Score
    required: float

    @property
    def kept(self) -> bool:
        """Whether the plan keeps the target there too."""
        return self.plan.value >= self.required


def loss_interval(metric: TaskMetric, fp32: Scores, plan: Scores, seed: int) -> LossInterval | None:
    """The loss between what `metric` keeps of the same samples [n] or [n, k] for FP32 and a plan.

    None for fewer than two samples, or if the metric has no statistic of them.
    """
    if metric.statistic is None or len(fp32) < 2:
        return None
    count, loss = len(fp32), metric.statistic(fp32) - metric.statistic(plan)
    if np.array_equal(fp32, plan):
        reach = (metric.bounds[1] - metric.bounds[0]) * _RULE_OF_THREE / count if metric.bounds else 0.0
        return LossInterval(loss, loss - reach, loss + reach, count)
    if metric.bounds is not None:
        reach = _Z * _error_of_mean(fp32 - plan)
        return LossInterval(loss, loss - reach, loss + reach, count)
    low, high = np.quantile(_resampled(metric.statistic, fp32, plan, seed), [0.025, 0.975])
    return LossInterval(loss, 2 * loss - float(high), 2 * loss - float(low), count)


def _error_of_mean(differences: Scores) -> float:
    return float(differences.std(ddof=1)) / math.sqrt(len(differences))


def _resampled(statistic: Callable[[Scores], float], one: Scores, other: Scores, seed: int) -> list[float]:
    """The loss on samples drawn with replacement, again and again."""
    drawn = np.random.default_rng(seed).integers(0, len(one), (_RESAMPLES, len(one)))
    return [statistic(one[rows]) - statistic(other[rows]) for rows in drawn]
