"""Integer linear programming over predicted harm, corrected by what plans really score.

That latency and summed sensitivity make a knapsack which an integer program solves is from HAWQ-V3 (Yao et al.,
"HAWQ-V3: Dyadic Neural Network Quantization", ICML 2021). Ours knows the tensors between groups too (`Costs`), learns
from every plan it evaluates (`Prediction`), and takes no prediction of accuracy on trust.
"""

from __future__ import annotations

from collections.abc import Mapping

from trt_mpq.search.base import Limit, Problem, Trail
from trt_mpq.search.costs import Choice
from trt_mpq.search.frontier import Frontier
from trt_mpq.search.prediction import Prediction, sensitivities
from trt_mpq.types import Evaluation, SearchResult

_WORTH_TRYING = 0.002
"""Least gain in latency, as a share, for which a plan is evaluated."""
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
    With a limit on latency or size it tries the least harmful plans within the limit and keeps what scores best.
    """

    name = "ilp"
    accuracy_only = False

    def ranks(self, problem: Problem) -> bool:
        """Not where no plan is faster than the widest by what is worth a try."""
        widest, fastest = (
            problem.grouping.uniform(problem.ladder[0]),
            _frontier(problem, sensitivities(problem)).fastest(),
        )
        if problem.limit or fastest is None:
            return True
        return problem.latency.of(fastest) < problem.latency.of(widest) * (1 - _WORTH_TRYING)

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
        return trail.result(self.name)


def _try_faster(problem: Problem, trail: Trail, best: Evaluation) -> None:
    """Try plans that are faster than the best so far, until `_PATIENCE` of them failed in a row."""
    sensitivity = sensitivities(problem)
    allowed = best.score.value - problem.required
    hopeless = _HOPELESS * max(allowed, best.score.stderr or 0.0)
    prediction = Prediction(sensitivity, best.score.value, allowed)
    plan, note = _frontier(problem, sensitivity).fastest(), "fastest of all"
    failures = -1  # the fastest of all is no guess that could have failed
    while plan is not None and failures < _PATIENCE:
        tried = trail.evaluate(plan, note)
        failures = 0 if tried.feasible else failures + 1
        best = trail.best() or best
        limit_ms = best.latency_ms * (1 - _WORTH_TRYING)
        frontier = _frontier(problem, prediction.after(trail.tried.values()))
        plan, note = frontier.fastest(allowed), "fastest that should keep the score"
        if plan is None or plan in trail.tried or problem.latency.of(plan) > limit_ms:
            plan, note = frontier.gentlest(limit_ms, trail.tried), "gentlest that is faster"
            if plan is not None and frontier.harm(plan) > hopeless:
                return


def _try_within(problem: Problem, limit: Limit, trail: Trail) -> None:
    """Try the least harmful plans that keep `limit`, until `_PATIENCE` in a row score no better."""
    frontier = Frontier(limit.cost.terms, problem.grouping, sensitivities(problem), problem.solved)
    failures = 0
    while failures < _PATIENCE and (plan := frontier.gentlest(limit.most, trail.tried)) is not None:
        better = trail.evaluate(plan, f"gentlest that {limit.words}") is trail.best()
        failures = 0 if better else failures + 1


def _frontier(problem: Problem, harm: Mapping[Choice, float]) -> Frontier:
    return Frontier(problem.latency.terms, problem.grouping, harm, problem.solved)
