"""Integer linear programming over predicted harm, corrected by what plans really score.

That latency and summed sensitivity make a knapsack which an integer program solves is from HAWQ-V3 (Yao et al.,
"HAWQ-V3: Dyadic Neural Network Quantization", ICML 2021). Ours knows the tensors between groups too (`Costs`), learns
from every plan it evaluates (`Prediction`), and takes no prediction of accuracy on trust.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trt_mpq.search.base import Limit, Problem, Trail
from trt_mpq.search.costs import Choice
from trt_mpq.search.frontier import Frontier
from trt_mpq.search.prediction import Prediction, sensitivities
from trt_mpq.search.settled import WORTH_TRYING, fastest_plan, settled
from trt_mpq.types import Evaluation, SearchResult

_FEWEST_EVALUATIONS = 8
_PATIENCE = 6
"""Plans that may fail in a row before the search gives up."""
_HOPELESS = 2.0
"""Predicted loss from which on no plan is tried, in units of what is allowed or of one standard error."""


class IntegerProgram:
    """The fastest plan whose predicted loss is allowed; what it really scores corrects the prediction.

    The uniform plans come first, then the fastest of all plans: if that is feasible, there is nothing more to find.
    Otherwise the next plan is always the fastest that is predicted to be feasible; if that is no faster than the best
    so far, it is the least harmful of those that are faster, unless even that is hopeless.

    It stops after a third of the evaluations greedy would make, but no fewer than 8, unless the problem has a budget.
    If it found nothing by then, it goes on one group at a time: it never ends with nothing while one is untried.
    With a limit on latency or size it tries the least harmful plans within the limit and keeps what scores best.
    """

    name = "ilp"
    accuracy_only = False

    def unranked(self, problems: Sequence[Problem]) -> SearchResult | None:
        """The fastest plan of all where that keeps the target, or the widest where none is faster."""
        return settled(self.name, problems)

    def run(self, problem: Problem) -> SearchResult:
        """The best plan evaluated; raises TargetNotReachable if none meets the requirement."""
        trail = Trail(problem, problem.usual_evaluations(_FEWEST_EVALUATIONS))
        with trail.until_spent():
            widest = trail.evaluate_uniform()[0]
            if problem.limit:
                _try_within(problem, problem.limit, trail)
            elif widest.feasible:
                _try_faster(problem, trail, widest)
                while not trail.best_stands():
                    _try_faster(problem, trail, widest)
        if not problem.limit and _found_nothing(trail):
            with trail.until_spent(beyond_usual=True):
                _try_single_groups(problem, trail)
        return trail.result(self.name)


def _try_faster(problem: Problem, trail: Trail, best: Evaluation) -> None:
    """Try plans that are faster than the best so far, until `_PATIENCE` of them failed in a row."""
    sensitivity = sensitivities(problem)
    allowed = best.score.value - problem.required
    hopeless = _HOPELESS * max(allowed, best.score.stderr or 0.0)
    prediction = Prediction(sensitivity, best.score.value, allowed)
    plan, note = trail.proposed(fastest_plan(problem)), "fastest of all"
    failures = -1  # the fastest of all is no guess that could have failed
    while plan is not None and failures < _PATIENCE:
        tried = trail.evaluate(plan, note)
        failures = 0 if tried.feasible else failures + 1
        best = trail.best() or best
        limit_ms = best.latency_ms * (1 - WORTH_TRYING)
        frontier = _frontier(problem, prediction.after(trail.tried.values()))
        plan, note = trail.proposed(frontier.fastest(allowed)), "fastest that should keep the score"
        if plan is None or plan in trail.tried or problem.latency.of(plan) > limit_ms:
            plan, note = trail.proposed(frontier.gentlest(limit_ms, trail.tried)), "gentlest that is faster"
            if plan is not None and frontier.harm(plan) > hopeless:
                return


def _found_nothing(trail: Trail) -> bool:
    """Whether the widest plan, which is feasible, is all that there is."""
    while not trail.best_stands():
        pass
    best = trail.best()
    return best is not None and best.plan == next(iter(trail.tried))


def _try_single_groups(problem: Problem, trail: Trail) -> None:
    """Lower one group after the other, each kept that makes the plan faster and holds, the least harmful first.

    A solver that trusts its prediction offers groups together, because conversions between them cost; where nothing of
    what it offers holds, each group is asked alone, and what is found is built upon.
    """
    best = next(iter(trail.tried.values()))
    allowed = best.score.value - problem.required
    harm = Prediction(sensitivities(problem), best.score.value, allowed).after(trail.tried.values())
    for group, precision in sorted((choice for choice, lost in harm.items() if lost > 0), key=harm.__getitem__):
        plan = best.plan.replace({group: precision})
        if problem.latency.of(plan) <= best.latency_ms * (1 - WORTH_TRYING):
            trail.evaluate(plan, f"one by one: {group} to {precision}")
            while not trail.best_stands():
                pass
            best = trail.best() or best


def _try_within(problem: Problem, limit: Limit, trail: Trail) -> None:
    """Try the least harmful plans that keep `limit`, until `_PATIENCE` in a row score no better."""
    frontier = Frontier(limit.cost.terms, problem.grouping, sensitivities(problem), problem.solved)
    failures = 0
    while failures < _PATIENCE and (plan := trail.proposed(frontier.gentlest(limit.most, trail.tried))) is not None:
        better = trail.evaluate(plan, f"gentlest that {limit.words}") is trail.best()
        failures = 0 if better else failures + 1


def _frontier(problem: Problem, harm: Mapping[Choice, float]) -> Frontier:
    return Frontier(problem.latency.terms, problem.grouping, harm, problem.solved)
