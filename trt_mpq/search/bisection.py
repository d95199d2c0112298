"""Sensitivity-guided bisection (Schaefer et al. 2023): the cut in the ranking, found by binary search."""

from __future__ import annotations

from collections.abc import Sequence

from trt_mpq.search.base import Problem, Trail, descend
from trt_mpq.search.settled import settled
from trt_mpq.types import Precision, PrecisionPlan, SearchResult


class Bisection:
    """Per precision, moves the longest prefix of the ranking that keeps the score.

    Assumes that moving more groups never raises the score, which the ranking makes likely but does not
    guarantee; the prefix that is accepted was evaluated. With L groups and K precisions it makes at most
    (K - 1) (ceil(log2 L) + 1) + K evaluations.
    """

    name = "bisection"
    accuracy_only = True

    def unranked(self, problems: Sequence[Problem]) -> SearchResult | None:
        """The fastest plan of all where that keeps the target: no walk ends in a faster one."""
        return settled(self.name, problems)

    def run(self, problem: Problem) -> SearchResult:
        """The best plan evaluated; raises TargetNotReachable if none meets the requirement."""
        return descend(problem, self.name, _longest_feasible)


def _longest_feasible(
    trail: Trail, plan: PrecisionPlan, precision: Precision, movable: tuple[str, ...]
) -> PrecisionPlan:
    """`plan` with as many of `movable` in `precision` as is feasible, if feasibility only turns from true to false.

    `plan` is feasible and not asked for again. All are moved first, because moving everything is often the answer; at
    most ceil(log2(movable)) + 1 plans are asked for.
    """

    def moved(count: int) -> PrecisionPlan:
        return plan.replace(dict.fromkeys(movable[:count], precision))

    def feasible(count: int) -> bool:
        note = f"to {precision}: the {count} least sensitive of {len(movable)}"
        return trail.evaluate(moved(count), note).feasible

    longest = len(movable)
    if longest == 0 or feasible(longest):
        return moved(longest)
    low, high = 0, longest
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if feasible(middle) else (low, middle)
    return moved(low)
