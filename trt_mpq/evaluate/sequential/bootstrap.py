"""A sequential test by paired bootstrap, for scores that are no means: correlations, perplexity, a share of all tokens.

At a few looks fixed beforehand the difference of plan and FP32 on the samples drawn so far is compared with the
difference that the target allows. Its standard error is that of the bootstrap over pairs (Efron and Tibshirani, "An
Introduction to the Bootstrap", 1993, section 6), times the finite-population correction sqrt(1 - n / N). The error
level alpha is shared equally among the looks; Bonferroni's bound holds however they depend on each other.

The difference is taken to be normal, which holds for many samples only: this level is asymptotic, not guaranteed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from trt_mpq.evaluate.metrics.base import Scores
from trt_mpq.types import Score

_RESAMPLES = 500
_SEED = 0
_LEAST_DIFFERING = 20
"""Samples in which plan and FP32 must differ: with fewer, a bootstrap error says nothing, and it may be 0."""


@dataclass(frozen=True, eq=False)
class BootstrapTest:
    """Is a plan's score, a statistic of numbers per sample, at least `required`?

    Attributes:
        baseline: FP32's numbers [N, k], in the order in which samples are drawn.
        required: Lowest acceptable score.
        statistic: Score of numbers [n, k].
        alpha: Probability of a wrong decision, asymptotically.
        looks: Numbers of samples after which `decide` may be asked for more than None, each below N.
    """

    baseline: Scores
    required: float
    statistic: Callable[[Scores], float]
    alpha: float
    looks: tuple[int, ...]

    def decide(self, plan: Scores) -> bool | None:
        """What `plan` [n, k] says if n is one of the looks."""
        n = len(plan)
        differing = np.any(plan != self.baseline[:n], axis=1).sum()
        if n not in self.looks or differing < _LEAST_DIFFERING:
            return None
        estimate = self.estimate(plan)
        margin = -NormalDist().inv_cdf(self.alpha / len(self.looks)) * (estimate.stderr or 0.0)
        if abs(estimate.value - self.required) <= margin:
            return None
        return estimate.value > self.required

    def estimate(self, plan: Scores) -> Score:
        """FP32's score and the difference on the first n samples, with the bootstrap error of the latter."""
        n, count = len(plan), len(self.baseline)
        pairs = (plan, self.baseline[:n])
        generator = np.random.default_rng(_SEED)
        draws = (generator.integers(n, size=n) for _ in range(_RESAMPLES))
        spread = np.std([self._difference(*(numbers[drawn] for numbers in pairs)) for drawn in draws], ddof=1)
        value = self.statistic(self.baseline) + self._difference(*pairs)
        return Score(value, float(spread) * math.sqrt(1 - n / count), n)

    def _difference(self, plan: Scores, baseline: Scores) -> float:
        return self.statistic(plan) - self.statistic(baseline)
