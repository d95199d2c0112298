"""What a plan loses in accuracy, believed: sensitivities add up, and every plan that was evaluated corrects them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import erf, isfinite, log, sqrt

import numpy as np
from numpy.typing import NDArray

from trt_mpq.search.base import Problem
from trt_mpq.search.costs import Choice
from trt_mpq.types import Evaluation, PrecisionPlan

_LEAST_HARM = 0.01
"""Least predicted harm, as a share of the mean: a score of zero or below is chance."""
_INEXACT = 0.05
"""Standard error of a sum of harms, as a share of it: harms do not quite add up."""
_TRUSTED = (0.5, 1.0, 0.0)
"""Powers of the sensitivity that harms may go by, the likeliest first: 0 is for scores that say nothing."""
_LUCK = (0.1, 0.05, 0.2, 0.025, 0.4)
"""How far a score may stray by the luck of single samples, in its standard errors, the likeliest first."""
_SINGLE = 0.5
"""How much of the luck no other plan shares."""


def sensitivities(problem: Problem) -> dict[Choice, float]:
    """Every choice there is, to its sensitivity: none for the widest precision of a group.

    Choices without a finite sensitivity are left out. Where nothing was ranked all are alike.
    """
    narrower, ranking = problem.ladder[1:], problem.ranking
    scores = (
        ranking.harms or ranking.scores or {p: dict.fromkeys((g.id for g in problem.groups), 1.0) for p in narrower}
    )
    known = {
        (g.id, p): scores[p][g.id]
        for g in problem.groups
        for p in narrower
        if g.allows(p) and isfinite(scores[p].get(g.id, float("nan")))
    }
    positive = [score for score in known.values() if score > 0] or [1.0]
    least = _LEAST_HARM * sum(positive) / len(positive)
    harm: dict[Choice, float] = {}
    for group in problem.groups:
        widest = problem.grouping.widest(group)
        own = {(group.id, p): known[group.id, p] for p in narrower if p is not widest and (group.id, p) in known}
        harm |= {(group.id, widest): 0.0, **{choice: max(score, least) for choice, score in own.items()}}
    return harm


class Prediction:
    """Harm of every choice, in units of the task score.

    A Gaussian belief: before any evaluation each harm is a power of its sensitivity times a factor, give or take as
    much, the mean and its part of the luck of single samples; the scores of whole plans, or of their files where these
    are lower, are sums of harms (Bayesian linear regression). The factor is what the most harmful plan tried says; the
    power and the luck are those under which what was seen is likeliest (empirical Bayes), so that scores are trusted as
    far as they deserve.

    Args:
        sensitivity: Every choice, to its sensitivity, zero for the widest precisions.
        best: The widest plan, which loses nothing.
        allowed: Loss that is allowed; sums near it are believed to that scale.
    """

    def __init__(self, sensitivity: dict[Choice, float], best: Evaluation, allowed: float) -> None:
        self._choices = {choice: column for column, choice in enumerate(sensitivity)}
        # In units of the largest: a metric's own may be too small to divide by.
        self._sensitivity = np.array(list(sensitivity.values())) / (max(sensitivity.values()) or 1.0)
        self._best, self._allowed = best.score.value, allowed
        self._stderr = best.score.stderr or 0.0

    def after(self, tried: Iterable[Evaluation]) -> Belief:
        """What is believed of every choice after the evaluations `tried`."""
        known = [e for e in tried if all(choice in self._choices for choice in e.plan.assignments)]
        made = np.array([self._made(e.plan) for e in known])
        loss = np.array([self._best - _worst(e) for e in known])
        estimated = np.array([0.0 if e.complete else e.score.stderr or 0.0 for e in known])
        beliefs = [self._belief(made, loss, estimated, power, luck) for power in _TRUSTED for luck in _LUCK]
        return max(beliefs, key=lambda belief: belief.evidence)

    def _belief(
        self,
        made: NDArray[np.float64],
        loss: NDArray[np.float64],
        estimated: NDArray[np.float64],
        power: float,
        luck: float,
    ) -> Belief:
        lowered = self._sensitivity > 0
        trusted = np.where(lowered, self._sensitivity, 1.0) ** power * lowered
        before = self._factor(made @ trusted, loss) * trusted
        spread, single = self._spread(before, luck * self._stderr), _SINGLE * luck * self._stderr
        lost = made @ lowered > 0
        error = np.hypot(_INEXACT * np.maximum(np.abs(loss), self._allowed), np.hypot(estimated, single)) * lost
        error = np.hypot(error, 1e-6 * np.linalg.norm(before) + 1e-15)
        usual = -0.5 * log(luck / _LUCK[0]) ** 2 - (power - _TRUSTED[0]) ** 2
        return Belief(self._choices, before, spread, made, loss, error, single, usual)

    def _spread(self, before: NDArray[np.float64], luck: float) -> NDArray[np.float64]:
        """Standard deviations: as much as the harm and the mean of its precision, and a part of the luck."""
        precisions = np.array([precision for _, precision in self._choices])
        spread = np.zeros(len(before))
        for precision in dict.fromkeys(precisions):
            own = (precisions == precision) & (before > 0)
            unsure = before[own] + before[own].mean() if own.any() else before[own]
            # All powers are as unsure of the sum, which tells nothing of the power.
            size = float(np.linalg.norm(unsure)) or 1.0
            unsure = unsure * (2 * before[own].sum() / sqrt(max(own.sum(), 1)) / size)
            spread[own] = np.hypot(unsure, luck / sqrt(max(own.sum(), 1)))
        return spread

    def _made(self, plan: PrecisionPlan) -> list[float]:
        chosen = frozenset(plan.assignments)
        return [float(choice in chosen) for choice in self._choices]

    def _factor(self, sensitivity: np.ndarray, loss: np.ndarray) -> float:
        most = int(np.argmax(sensitivity))
        if sensitivity[most] <= 0:
            return 1.0
        # A plan that lost nothing tells no more than that the harm is of the size of what is allowed.
        return float(loss[most] if loss[most] > 0 else self._allowed or 1.0) / float(sensitivity[most])


@dataclass(frozen=True)
class Belief:
    """Harms of choices as far as they are known, Gaussian.

    Attributes:
        choices: Every choice [n], to its place.
        before: Harms [n] that were expected before any evaluation.
        spread: Their standard deviations [n].
        made: Which choices each plan [m, n] that was evaluated makes.
        loss: What it lost [m].
        error: Standard errors [m] of these as sums of harms.
        luck: Standard deviation of what a plan loses beside.
        usual: How usual such a belief is beforehand, a logarithm.
    """

    choices: dict[Choice, int]
    before: NDArray[np.float64]
    spread: NDArray[np.float64]
    made: NDArray[np.float64]
    loss: NDArray[np.float64]
    error: NDArray[np.float64]
    luck: float
    usual: float

    @property
    def evidence(self) -> float:
        """Logarithm of how likely what was seen is by this belief, but for a constant."""
        missed, covariance = self.loss - self.made @ self.before, self._covariance()
        _, size = np.linalg.slogdet(covariance)
        return float(self.usual - 0.5 * (missed @ np.linalg.solve(covariance, missed) + size))

    def expected(self) -> dict[Choice, float]:
        """Harm of every choice as it is expected; positive."""
        harm = self.before + self._gain() @ (self.loss - self.made @ self.before)
        return dict(zip(self.choices, np.maximum(harm, _LEAST_HARM * self.before).tolist(), strict=True))

    def chance(self, plan: PrecisionPlan, allowed: float) -> float:
        """How likely `plan` loses no more than `allowed`."""
        row = np.zeros(len(self.before))
        row[[self.choices[choice] for choice in plan.assignments]] = 1
        told = self._gain().T @ row
        most = float(row @ self.before + told @ (self.loss - self.made @ self.before))
        variance = float(np.sum((row * self.spread) ** 2) - told @ (self.made @ (self.spread**2 * row)))
        return _below(allowed - most, sqrt(max(variance, 0.0) + self.luck**2))

    def _gain(self) -> NDArray[np.float64]:
        """What the loss of every plan [n, m] says of every harm."""
        return np.asarray(np.linalg.solve(self._covariance(), self.made * self.spread**2).T, dtype=np.float64)

    def _covariance(self) -> NDArray[np.float64]:
        """Of the losses [m, m] of the plans."""
        return (self.made * self.spread**2) @ self.made.T + np.diag(self.error**2)


def _below(distance: float, deviation: float) -> float:
    """Probability that a Gaussian of this standard deviation is below its mean + `distance`."""
    return 0.5 + 0.5 * erf(distance / (deviation * sqrt(2))) if deviation else float(distance >= 0)


def _worst(tried: Evaluation) -> float:
    """What has to keep the target: the score of a plan, or that of its file where this is lower."""
    return min(tried.score.value, (tried.delivered or tried.score).value)
