"""Integer linear programming over predicted harm, corrected by what plans really score.

That latency and summed sensitivity make a knapsack which an integer program solves is from HAWQ-V3 (Yao et al.,
"HAWQ-V3: Dyadic Neural Network Quantization", ICML 2021). Ours knows the tensors between groups too (`Costs`), learns
from every plan it evaluates (`Prediction`), and takes no prediction of accuracy on trust.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

from trt_mpq.search.base import Limit, Problem, Trail
from trt_mpq.search.costs import Choice
from trt_mpq.search.frontier import Frontier
from trt_mpq.search.prediction import Belief, Prediction, sensitivities
from trt_mpq.search.settled import WORTH_TRYING, cheapest_plan, settled
from trt_mpq.types import Evaluation, PrecisionPlan, SearchResult

_FEWEST_EVALUATIONS, _FEWEST_MISSES = 10, 6
_LEAST_WORTH = 0.001
"""Gain times chance, as a share of the cost of the best plan so far, that makes a plan worth a try."""
_STEPS = (0.1, 0.35, 0.6)
"""How far between the best plan so far and the fastest of all plans are proposed, as shares in cost."""
_PATIENCE = 6
"""Plans within a limit that may score no better in a row before the search gives up."""


class IntegerProgram:
    """The plan of which most is to be expected; what it really scores corrects what is expected of others.

    The uniform plans come first, then the fastest of all plans: if that is feasible, there is nothing more to find.
    Otherwise plans are proposed between the best so far and the fastest of all, and the next to be tried is the one
    with the largest gain in latency times the chance that it keeps the score, until that is not worth a try.

    Unless the problem has a budget, it stops when as many plans missed since it found the best as a quarter of the
    evaluations greedy would make, but no fewer than 6, or when it made as many as greedy, but no fewer than 10. If it
    found nothing by then, it goes on one group at a time: it never ends with nothing while one is untried.
    With a limit on latency or size it tries the least harmful plans within the limit and keeps what scores best.
    """

    name = "ilp"
    accuracy_only = False

    def unranked(self, problems: Sequence[Problem]) -> SearchResult | None:
        """The fastest plan of all where that keeps the target, or the widest where none is faster."""
        return settled(self.name, problems)

    def run(self, problem: Problem) -> SearchResult:
        """The best plan evaluated; raises TargetNotReachable if none meets the requirement."""
        most = problem.share_of_greedy(1, _FEWEST_EVALUATIONS)
        trail = Trail(problem, most, misses=problem.share_of_greedy(4, _FEWEST_MISSES))
        with trail.until_spent():
            widest = trail.evaluate_uniform()[0]
            if problem.limit:
                _try_within(problem, problem.limit, trail)
            elif widest.feasible:
                if problem.hint is not None:
                    trail.evaluate(problem.hint, "found in other scales")
                _try_faster(problem, trail, widest)
                while not trail.best_stands():
                    _try_faster(problem, trail, widest)
        # Where something is known already, to end with nothing is no loss.
        if not problem.limit and not isfinite(problem.below) and trail.stands(next(iter(trail.tried))):
            with trail.until_spent(beyond_usual=True):
                _try_single_groups(problem, trail)
        return trail.result(self.name)


def _try_faster(problem: Problem, trail: Trail, widest: Evaluation) -> None:
    """Try plans that are faster than the best so far, until none is worth it by what is believed."""
    allowed = widest.score.value - problem.required
    prediction = Prediction(sensitivities(problem), widest, allowed)
    plan, note = trail.proposed(cheapest_plan(problem)), f"{problem.cost.least} of all"
    while plan is not None:
        trail.evaluate(plan, note)
        best = (trail.standing() if trail.doubts_files else trail.best()) or widest
        plan, note = _most_promising(problem, trail, prediction.after(trail.tried.values()), best, allowed)


def _most_promising(
    problem: Problem, trail: Trail, belief: Belief, best: Evaluation, allowed: float
) -> tuple[PrecisionPlan | None, str]:
    """The plan not tried yet of which the most is to be expected, gain times chance; none if that is not worth a try.

    Proposed are the fastest plan that should keep the score, and the gentlest that are faster than the best so far by
    steps of several sizes: where much may still be gained, small steps would spend the budget. What is believed misled
    where plans missed, so that steps are shorter then.
    """
    fastest = cheapest_plan(problem).plan or best.plan
    known = min(best.cost, problem.below)
    least, most, reach = problem.cost.of(fastest), known * (1 - WORTH_TRYING), _reach(trail, fastest)
    frontier, proposals = _frontier(problem, belief.expected()), dict[PrecisionPlan | None, str]()
    if reach == 1:
        proposals[trail.proposed(frontier.cheapest(allowed))] = f"{problem.cost.least} that should keep the score"
    for step in _STEPS:
        gentlest = frontier.gentlest(most - reach * step * max(most - least, 0.0), trail.tried)
        proposals.setdefault(trail.proposed(gentlest), f"gentlest that is {problem.cost.less}")

    def worth(plan: PrecisionPlan) -> float:
        return (known - problem.cost.of(plan)) * belief.chance(plan, allowed)

    plan = max((p for p in proposals if p is not None and p not in trail.tried), key=worth, default=None)
    if plan is None or worth(plan) <= _LEAST_WORTH * known:
        return None, ""
    return plan, proposals[plan]


def _reach(trail: Trail, fastest: PrecisionPlan) -> float:
    """The share of a full step to take: half as much after every plan but one that misses, twice after one that holds.

    As the radius of a trust region (Conn, Gould and Toint, "Trust-Region Methods", 2000), of the plans behind the
    `fastest`. Plans that miss one after the other are not each as likely to hold as the first was: what a solver picks
    by what is believed, it picks where belief is wrong.
    """
    reach, missed, plans = 1.0, 0, list(trail.tried)
    for plan in plans[plans.index(fastest) + 1 :] if fastest in trail.tried else ():
        if trail.tried[plan].feasible:
            reach = min(2 * reach, 1.0)
        else:
            reach, missed = reach / 2 if missed else reach, missed + 1
    return reach


def _try_single_groups(problem: Problem, trail: Trail) -> None:
    """Lower one group after the other, each kept that makes the plan faster and holds, the least harmful first.

    A solver that trusts its prediction offers groups together, because conversions between them cost; where nothing of
    what it offers holds, each group is asked alone, and what is found is built upon.
    """
    best = next(iter(trail.tried.values()))
    allowed = best.score.value - problem.required
    harm = Prediction(sensitivities(problem), best, allowed).after(trail.tried.values()).expected()
    for group, precision in sorted((choice for choice, lost in harm.items() if lost > 0), key=harm.__getitem__):
        plan = best.plan.replace({group: precision})
        if problem.cost.of(plan) <= best.cost * (1 - WORTH_TRYING):
            trail.evaluate(plan, f"one by one: {group} to {precision}")
            best = trail.standing() or best


def _try_within(problem: Problem, limit: Limit, trail: Trail) -> None:
    """Try the least harmful plans that keep `limit`, until `_PATIENCE` in a row score no better."""
    frontier = Frontier(limit.cost.terms, problem.grouping, sensitivities(problem), problem.solved)
    failures = 0
    while failures < _PATIENCE and (plan := trail.proposed(frontier.gentlest(limit.most, trail.tried))) is not None:
        better = trail.evaluate(plan, f"gentlest that {limit.words}") is trail.best()
        failures = 0 if better else failures + 1


def _frontier(problem: Problem, harm: Mapping[Choice, float]) -> Frontier:
    return Frontier(problem.cost.terms, problem.grouping, harm, problem.solved)
