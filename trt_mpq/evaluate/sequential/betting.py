"""A sequential test by betting, for scores that are means over samples.

Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (JRSS-B 2023), section 5: sampling
without replacement. A gambler bets against the hypothesis that the mean difference d of plan and FP32 over all N
samples is m, at odds that are fair if it is. Before sample t is drawn, the mean of the samples left is then

    m_t = (N m - d_1 - ... - d_(t-1)) / (N - t + 1)

and the capital, prod(1 + bet_t (d_t - m_t)) with any bets fixed beforehand that keep it positive, is a martingale. By
Ville's inequality it ever reaches 1 / alpha with a probability of at most alpha. Bets on d_t > m_t test "the plan
misses", bets on d_t < m_t "the plan keeps the target". Only one of the two is true, so at most a share alpha of all
orders leads to a wrong decision, for every evaluation set and however often the test looks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trt_mpq.evaluate.metrics.base import Scores
from trt_mpq.types import Score

_PRIOR_SAMPLES, _PRIOR_VARIANCE = 20, 0.02
"""Bets begin as if so many samples had shown no mean difference and this variance (of scores in [0, 1])."""
_BOLDEST = 0.6
"""Largest share of the capital that one sample can lose. Neither constant bears on the error level."""
_ROUNDING = 1e-9
"""Slack per sample of what is called certain, above the rounding errors of sums."""


@dataclass(frozen=True, eq=False)
class BettingTest:
    """Is the mean of a plan's scores per sample at least `required`?

    Attributes:
        baseline: FP32's scores [N], in the order in which samples are drawn.
        required: Lowest acceptable mean.
        bounds: Least and largest score that a sample can have.
        alpha: Share of all orders in which a decision may be wrong.
    """

    baseline: Scores
    required: float
    bounds: tuple[float, float]
    alpha: float

    def decide(self, plan: Scores) -> bool | None:
        """What the first decisive sample says; None if there was none. `plan` is [n], in the order of drawing."""
        decision = self.decision(plan)
        return None if decision is None else decision[0]

    def decision(self, plan: Scores) -> tuple[bool, int] | None:
        """The same, and after how many samples it was decided."""
        low, high = self.bounds
        scores, baseline = ((values - low) / (high - low) for values in (plan, self.baseline))
        required = len(baseline) * (self.required - low) / (high - low)
        keeps, misses = _certain(scores, len(baseline), required)
        differences = scores - baseline[: len(scores)]
        mean = _mean_left(differences, len(baseline), required - float(baseline.sum()))
        enough = math.log(1 / self.alpha)
        keeps |= _log_capital(differences, mean) >= enough
        misses |= _log_capital(-differences, -mean) >= enough
        return _first(keeps, misses)

    def estimate(self, plan: Scores) -> Score:
        """FP32's mean and the mean difference on the first n samples, with its error (drawn without replacement)."""
        n, count = len(plan), len(self.baseline)
        differences = plan - self.baseline[:n]
        error = float(differences.std(ddof=1)) * math.sqrt((1 - n / count) / n) if n > 1 else None
        return Score(float(self.baseline.mean() + differences.mean()), error, n)


def _certain(scores: Scores, count: int, required: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """After which of the scores [n] in [0, 1] no others can change that their sum over `count` keeps or misses."""
    total, left = np.cumsum(scores), count - np.arange(1, len(scores) + 1)
    slack = _ROUNDING * count
    return total >= required + slack, total + left < required - slack


def _mean_left(differences: Scores, count: int, required: float) -> Scores:
    """Mean of what is left before each of the differences [n], if all `count` sum up to `required`."""
    before = np.cumsum(differences) - differences
    return np.asarray((required - before) / (count - np.arange(len(differences))))


def _log_capital(differences: Scores, mean: Scores) -> Scores:
    """Logarithm of the capital after each of the differences [n] in [-1, 1] of a gambler who bets on more than `mean`.

    Bets are those of the paper's aGRAPA (appendix B): what would have made the capital of the samples before grow
    fastest, approximately, and no more than a share of the largest possible loss allows.
    """
    drawn = np.arange(len(differences)) + _PRIOR_SAMPLES
    squares = differences**2
    seen_mean = (np.cumsum(differences) - differences) / drawn
    seen_square = (np.cumsum(squares) - squares + _PRIOR_SAMPLES * _PRIOR_VARIANCE) / drawn
    edge = np.maximum(seen_mean - mean, 0.0)
    loss = np.maximum(mean + 1, np.finfo(float).tiny)  # nothing can be lost where `mean` is below all that is possible
    bets = np.minimum(edge / (seen_square + edge**2), _BOLDEST / loss)
    return np.cumsum(np.log1p(bets * (differences - mean)))


def _first(keeps: NDArray[np.bool_], misses: NDArray[np.bool_]) -> tuple[bool, int] | None:
    decided = np.flatnonzero(keeps | misses)
    return (bool(keeps[decided[0]]), int(decided[0]) + 1) if len(decided) else None
