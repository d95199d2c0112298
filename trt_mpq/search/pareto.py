"""The whole frontier between cost and accuracy in one run, from which every target is answered."""

from __future__ import annotations

from collections.abc import Sequence

from trt_mpq.search.base import Problem, Trail
from trt_mpq.search.frontier import Frontier
from trt_mpq.search.prediction import sensitivities
from trt_mpq.types import SearchResult

_FEWEST_EVALUATIONS = 16
_NARROWEST_GAP = 0.005
"""Gap in cost, as a share, in which no further plan is looked for."""


class Pareto:
    """Measures plans along the predicted frontier on every sample, the widest gap in cost first.

    Which plans those are does not depend on the target: asked again with another one, all scores are known. It
    makes as many evaluations as the budget allows, or a third of those greedy would make, but no fewer than 16.
    """

    name = "pareto"
    accuracy_only = False

    def unranked(self, problems: Sequence[Problem]) -> SearchResult | None:
        """Never: a frontier is more than its fastest plan."""
        return None

    def run(self, problem: Problem) -> SearchResult:
        """The best plan evaluated; raises TargetNotReachable if none meets the requirement."""
        trail = Trail(problem, problem.share_of_greedy(3, _FEWEST_EVALUATIONS))
        with trail.until_spent():
            trail.evaluate_uniform()
            _fill(problem, trail)
        return trail.result(self.name)


def _fill(problem: Problem, trail: Trail) -> None:
    """Evaluate the fastest plan, then halve the widest gap between costs until all are narrow."""
    frontier = Frontier(problem.cost.terms, problem.grouping, sensitivities(problem), problem.solved)
    fastest, widest = trail.proposed(frontier.cheapest()), problem.grouping.uniform(problem.ladder[0])
    if fastest is None:
        return
    low, high = trail.measure(fastest, f"{problem.cost.least} of all").cost, problem.cost.of(widest)
    gaps = [(low, high)]
    while gaps:
        gaps.sort(key=lambda gap: gap[1] - gap[0])
        low, high = gaps.pop()
        if high - low <= _NARROWEST_GAP * high:
            return
        middle = (low + high) / 2
        plan = trail.proposed(frontier.gentlest(middle))
        reached = low if plan is None else trail.measure(plan, f"gentlest within {middle:.4g} {problem.cost.unit}").cost
        gaps += [(low, min(reached, middle)), (middle, high)]
