"""Sensitivity-guided bisection (Schaefer et al. 2023): the cut in the ranking, found by binary search."""

from __future__ import annotations

from collections.abc import Callable

from trt_mpq.search.base import Problem, Trail, descend
from trt_mpq.types import Precision, PrecisionPlan, SearchResult


class Bisection:
    """Per precision, moves the longest prefix of the ranking that keeps the score.

    Assumes that moving more groups never raises the score, which the ranking makes likely but does not
    guarantee; the prefix that is accepted was evaluated. With L groups and K precisions it makes at most
    (K - 1) (ceil(log2 L) + 1) + K evaluations.
    """

    name = "bisection"

    def run(self, problem: Problem) -> SearchResult:
        """The best plan evaluated; raises TargetNotReachable if none meets the requirement."""
        trail = Trail(problem)

        def step(plan: PrecisionPlan, precision: Precision, movable: tuple[str, ...]) -> PrecisionPlan:
            def moved(count: int) -> PrecisionPlan:
                return plan.replace(dict.fromkeys(movable[:count], precision))

            def feasible(count: int) -> bool:
                note = f"to {precision}: the {count} least sensitive of {len(movable)}"
                return trail.evaluate(moved(count), note).feasible

            return moved(longest_feasible(feasible, len(movable)))

        with trail.until_spent():
            descend(problem, trail, step)
        return trail.result(self.name)


def longest_feasible(feasible: Callable[[int], bool], longest: int) -> int:
    """The largest count up to `longest` that is feasible, if feasibility only ever turns from true to false.

    Zero is taken to be feasible and not asked. `longest` is asked first, because moving everything is
    often the answer; at most ceil(log2(longest)) + 1 questions.
    """
    if longest == 0 or feasible(longest):
        return longest
    low, high = 0, longest
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if feasible(middle) else (low, middle)
    return low
