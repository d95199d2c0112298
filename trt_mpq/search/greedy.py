"""Sensitivity-guided greedy search (Schaefer et al. 2023): one group at a time, kept if the score holds."""

from __future__ import annotations

from collections.abc import Sequence

from trt_mpq.search.base import Problem, Trail, descend
from trt_mpq.search.settled import settled
from trt_mpq.types import Precision, PrecisionPlan, SearchResult


class Greedy:
    """Per precision, walks the ranking and keeps every single move that stays feasible.

    Unlike bisection it needs no monotone score and steps over a group that the ranking put too early. With L
    groups and K precisions it makes at most (K - 1) L + K evaluations.
    """

    name = "greedy"
    accuracy_only = True

    def unranked(self, problems: Sequence[Problem]) -> SearchResult | None:
        """The fastest plan of all where that keeps the target: no walk ends in a faster one."""
        return settled(self.name, problems)

    def run(self, problem: Problem) -> SearchResult:
        """The best plan evaluated; raises TargetNotReachable if none meets the requirement."""
        return descend(problem, self.name, _each_feasible)


def _each_feasible(trail: Trail, plan: PrecisionPlan, precision: Precision, movable: tuple[str, ...]) -> PrecisionPlan:
    for group in movable:
        candidate = plan.replace({group: precision})
        if trail.evaluate(candidate, f"to {precision}: {group}").feasible:
            plan = candidate
    return plan
