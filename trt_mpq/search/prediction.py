"""What a plan loses in accuracy, predicted: sensitivities add up, and every plan that was evaluated corrects them."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite

import numpy as np

from trt_mpq.search.base import Problem
from trt_mpq.search.costs import Choice
from trt_mpq.types import Evaluation, PrecisionPlan

_LEAST_HARM = 0.01
"""Least predicted harm, as a share of the mean: a score of zero or below is chance."""
_INEXACT = 0.05
"""Standard error of a sum of harms, as a share of it: harms do not quite add up."""


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

    A Gaussian belief: before any evaluation each harm is its sensitivity times a factor, give or take as much and the
    mean; the scores of whole plans, or of their files where these are lower, are sums of harms (Bayesian linear
    regression). The factor is what the most harmful plan tried says. Harms stay positive.

    Args:
        sensitivity: Every choice, to its sensitivity, zero for the widest precisions.
        best: Score of the widest plan, which loses nothing.
        allowed: Loss that is allowed; sums near it are believed to that scale.
    """

    def __init__(self, sensitivity: dict[Choice, float], best: float, allowed: float) -> None:
        self._choices = {choice: column for column, choice in enumerate(sensitivity)}
        # In units of the largest: a metric's own may be too small to divide by.
        self._sensitivity = np.array(list(sensitivity.values())) / (max(sensitivity.values()) or 1.0)
        self._best, self._allowed = best, allowed

    def after(self, tried: Iterable[Evaluation]) -> dict[Choice, float]:
        """Harm of every choice after the evaluations `tried`."""
        known = [e for e in tried if all(choice in self._choices for choice in e.plan.assignments)]
        made = np.array([self._made(e.plan) for e in known])
        loss = np.array([self._best - _worst(e) for e in known])
        factor = self._factor(made @ self._sensitivity, loss)
        before = factor * self._sensitivity
        mean = before.sum() / max(1, np.count_nonzero(before))
        spread = np.diag(np.where(before > 0, before + mean, 0.0) ** 2)
        error = np.diag((_INEXACT * np.maximum(np.abs(loss), self._allowed)) ** 2 + 1e-12 * (before**2).sum() + 1e-30)
        gain = spread @ made.T @ np.linalg.inv(made @ spread @ made.T + error)
        harm = before + gain @ (loss - made @ before)
        return dict(zip(self._choices, np.maximum(harm, _LEAST_HARM * before).tolist(), strict=True))

    def _made(self, plan: PrecisionPlan) -> list[float]:
        chosen = frozenset(plan.assignments)
        return [float(choice in chosen) for choice in self._choices]

    def _factor(self, sensitivity: np.ndarray, loss: np.ndarray) -> float:
        most = int(np.argmax(sensitivity))
        if sensitivity[most] <= 0:
            return 1.0
        # A plan that lost nothing tells no more than that the harm is of the size of what is allowed.
        return float(loss[most] if loss[most] > 0 else self._allowed or 1.0) / float(sensitivity[most])


def _worst(tried: Evaluation) -> float:
    """The score that a plan is refused for: its own or, where its file loses more, that less what the file loses."""
    return tried.score.value - (max(tried.delivered.loss, 0.0) if tried.delivered and not tried.feasible else 0.0)
