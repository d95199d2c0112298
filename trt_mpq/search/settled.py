"""What is found without a ranking: where the fastest plan of all keeps the target, nothing else can be better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trt_mpq.search.base import Problem, Trail
from trt_mpq.search.costs import Answer
from trt_mpq.search.frontier import cheapest_of_all
from trt_mpq.types import PrecisionPlan, SearchResult

WORTH_TRYING = 0.002
"""Least gain in latency, as a share, for which a plan is evaluated."""


def cheapest_plan(problem: Problem) -> Answer:
    """The plan of least cost, of equals one that lowers the fewest groups."""
    return cheapest_of_all(problem.cost.terms, problem.grouping, problem.ladder, problem.solved)


def settled(algorithm: str, problems: Sequence[Problem]) -> SearchResult | None:
    """What there is to find where no ranking can change it, from two plans at most; None where one may.

    The fastest plan of all ladders is tried, its file too. Where it keeps the target, or is not worth a try, no search
    finds a better one, whatever it goes by. What was measured here is known to a search that comes after.

    Raises:
        TargetNotReachable: No plan is worth a try, and the widest misses the target.
    """
    fastest = [
        (problem, answer.plan) for problem in problems if (answer := cheapest_plan(problem)).plan and not answer.gap
    ]
    if len(fastest) < len(problems) or any(problem.limit for problem in problems):
        return None
    problem, plan = min(fastest, key=lambda one: one[0].cost.of(one[1]))
    found = _tried(algorithm, replace(problem, notify=lambda evaluation: None), plan)
    for evaluation in found.path if found else ():
        problem.notify(evaluation)
    return found


def _tried(algorithm: str, problem: Problem, fastest: PrecisionPlan) -> SearchResult | None:
    """The result where `fastest` keeps the target, or where there is nothing to try; None otherwise."""
    trail, widest = Trail(problem), problem.grouping.uniform(problem.ladder[0])
    with trail.until_spent():
        trail.measure(widest, f"uniform {problem.ladder[0]}")
        if problem.cost.of(fastest) >= problem.cost.of(widest) * (1 - WORTH_TRYING):
            return replace(trail.result(algorithm), unranked=f"no plan is {problem.cost.less}")
        trail.evaluate(fastest, f"{problem.cost.least} of all")
        found = trail.result(algorithm) if trail.stands(fastest) else None
        return found and replace(found, unranked=f"the {problem.cost.least} plan meets the target")
    return None
