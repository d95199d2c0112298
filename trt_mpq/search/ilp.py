"""Integer linear programming over predicted harm, corrected by what plans really score.

That latency and summed sensitivity make a knapsack which an integer program solves is from HAWQ-V3 (Yao et al.,
"HAWQ-V3: Dyadic Neural Network Quantization", ICML 2021). Ours knows the tensors between groups too (`Costs`), and
takes no prediction of accuracy on trust: every plan it accepts was evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, isfinite

from trt_mpq.search.base import Limit, Problem, Trail
from trt_mpq.search.costs import Choice, Costs
from trt_mpq.search.frontier import Frontier
from trt_mpq.types import Evaluation, LayerGroup, Precision, PrecisionPlan, Ranking, SearchResult

_WORTH_TRYING = 0.002
"""Least gain in latency, as a share, for which a plan is evaluated."""
_FEWEST_EVALUATIONS = 8
_PATIENCE = 4
"""Neighbours that may fail in a row before the search gives up."""
_INNERMOST = 0.1
"""How close to an end of what is left the secant may step, as a share of it."""
_LEAST_HARM = 0.01
"""Least predicted harm, as a share of the mean: a score of zero or below is chance."""
_BLAME = 2.0
"""Factor on the harm of what a plan that failed did and the best plan does not do."""


class IntegerProgram:
    """The fastest plan within a budget of predicted harm; the budget is searched, then neighbours are tried.

    1. The uniform plans, then the fastest of all plans: if that is feasible, there is nothing more to find.
    2. The largest budget whose fastest plan is feasible, by the secant method on the scores, kept inside the bracket.
    3. The least harmful plan that is faster than the best so far and untried, again and again; what fails makes
       the choices that only it made more harmful.

    It stops after a third of the evaluations greedy would make, but no fewer than 8, unless the problem has a budget.
    With a limit on latency or size it tries the least harmful plans within the limit and keeps what scores best.
    """

    name = "ilp"

    def run(self, problem: Problem) -> SearchResult:
        """The best plan evaluated; raises TargetNotReachable if none meets the requirement."""
        trail = Trail(problem, default_evaluations(problem))
        with trail.until_spent():
            widest = trail.evaluate_uniform()[0]
            if problem.limit:
                _try_within(problem, problem.limit, trail)
            elif widest.feasible:
                walk = _Walk(problem, trail)
                walk.narrow_budget()
                walk.try_neighbours()
        return trail.result(self.name)


def default_evaluations(problem: Problem) -> int:
    """A third of what greedy makes at most, and at least 8."""
    rungs = len(problem.ladder)
    return max(_FEWEST_EVALUATIONS, ceil(((rungs - 1) * len(problem.groups) + rungs) / 3))


def predicted_harm(
    groups: tuple[LayerGroup, ...], ladder: tuple[Precision, ...], ranking: Ranking
) -> dict[Choice, float]:
    """Every choice there is, to its sensitivity: none for the widest precision of a group.

    Choices without a finite sensitivity are left out.
    """
    scores = {
        (g.id, p): ranking.scores[p][g.id]
        for g in groups
        for p in ladder[1:]
        if g.allows(p) and isfinite(ranking.scores[p].get(g.id, float("nan")))
    }
    positive = [score for score in scores.values() if score > 0] or [1.0]
    least = _LEAST_HARM * sum(positive) / len(positive)
    harm: dict[Choice, float] = {}
    for group in groups:
        widest = group.widest(ladder[0])
        harm[group.id, widest] = 0.0
        own = {p: scores[group.id, p] for p in ladder[1:] if (group.id, p) in scores}
        harm.update(((group.id, p), max(score, least)) for p, score in own.items() if p is not widest)
    return harm


@dataclass(frozen=True)
class _End:
    """One end of the bracket: a budget of harm, and what the fastest plan within it scores."""

    harm: float
    score: float


class _Walk:
    def __init__(self, problem: Problem, trail: Trail) -> None:
        self._problem, self._trail = problem, trail
        self._harm = predicted_harm(problem.groups, problem.ladder, problem.ranking)
        self._frontier = _frontier(problem, problem.known_costs, self._harm)

    def narrow_budget(self) -> None:
        """Find the largest budget whose fastest plan is feasible."""
        fastest = self._try(self._frontier.fastest(), "the fastest plan")
        if fastest is None or fastest.feasible:
            return
        low, high = self._gentle_end(), _End(self._frontier.harm(fastest.plan), fastest.score.value)
        while high.harm - low.harm > 1e-3 * high.harm:
            budget = low.harm + _secant(low.score, high.score, self._problem.required) * (high.harm - low.harm)
            tried = self._try(self._frontier.fastest(budget), f"the fastest with {budget:.3g} of sensitivity")
            if tried is None or tried.feasible:
                low = _End(budget, low.score if tried is None else tried.score.value)
            else:
                high = _End(min(budget, self._frontier.harm(tried.plan)), tried.score.value)

    def try_neighbours(self) -> None:
        """Try what is a little faster than the best plan, least harmful first."""
        failures = 0
        while failures < _PATIENCE:
            best = self._best()
            limit = best.latency_ms * (1 - _WORTH_TRYING)
            tried = self._try(
                self._frontier.gentlest(limit, self._trail.tried), "gentlest of those faster than the best"
            )
            if tried is None:
                return
            failures = 0 if tried.feasible else failures + 1
            if not tried.feasible:
                for choice in set(tried.plan.assignments) - set(best.plan.assignments):
                    self._harm[choice] *= _BLAME
                self._frontier = _frontier(self._problem, self._problem.known_costs, self._harm)

    def _try(self, plan: PrecisionPlan | None, note: str) -> Evaluation | None:
        """Evaluate `plan` if that can bring anything."""
        if plan is None:
            return None
        worth = self._problem.latency(plan) < self._best().latency_ms
        return self._trail.evaluate(plan, note) if worth or plan in self._trail.tried else None

    def _best(self) -> Evaluation:
        best = self._trail.best()
        assert best is not None  # the widest uniform plan is feasible
        return best

    def _gentle_end(self) -> _End:
        """The most harmful uniform plan that is feasible, which bounds the budget from below."""
        feasible = [e for e in self._trail.tried.values() if e.feasible and isfinite(self._frontier.harm(e.plan))]
        end = max(feasible, key=lambda e: self._frontier.harm(e.plan))
        return _End(self._frontier.harm(end.plan), end.score.value)


def _frontier(problem: Problem, costs: Costs, harm: Mapping[Choice, float]) -> Frontier:
    return Frontier(costs, (group.id for group in problem.groups), harm)


def _try_within(problem: Problem, limit: Limit, trail: Trail) -> None:
    """Try the least harmful plans that keep `limit`, until none scores better any more."""
    harm = predicted_harm(problem.groups, problem.ladder, problem.ranking)
    frontier = _frontier(problem, limit.costs, harm)
    failures = 0
    while failures < _PATIENCE:
        plan = frontier.gentlest(limit.most, trail.tried)
        if plan is None:
            return
        better = trail.evaluate(plan, f"gentlest that {limit.words}") is trail.best()
        failures = 0 if better else failures + 1


def _secant(low: float, high: float, required: float) -> float:
    """Where between two scores the required one lies, as a share, kept off the ends."""
    share = (low - required) / (low - high) if low > high else 0.5
    return min(max(share, _INNERMOST), 1 - _INNERMOST)
