"""Refinement for exactly the chosen plan, and the groups that it saves from high precision.

A search judges every plan with what was refined under the uniform plans, because refining each plan anew would cost a
pass over the calibration data per evaluation. The plan that it chooses deserves that pass, and so do a few others: with
corrections of its own, a group that was left in high precision may be affordable after all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count

from trt_mpq.emit import BiasCorrections, Own, Refinements, Roundings
from trt_mpq.search import Evaluator, Problem
from trt_mpq.types import Evaluation, Precision, PrecisionPlan, Progress, SearchResult

_MOST_ATTEMPTS = 4
"""Plans that are tried to save groups; each costs a pass over the calibration and one over the evaluation data."""
_LEAST_GAIN = 0.002
"""Least gain in what is minimised, as a share, for which a group is brought down: it may cost accuracy."""


@dataclass(frozen=True)
class Refined:
    """What refinement for a plan came to.

    Attributes:
        chosen: The plan to deliver.
        own: Whether it has refinements of its own.
        refined_score: Score of the search's plan with its own refinements; None if it is uniform, and so had them.
        rescued: Groups that were saved, to the precision they were brought to.
        attempts: How many plans were tried for that.
        rounded: Whether its weights are rounded as was learned under the search's plan.
    """

    chosen: Evaluation
    own: bool
    refined_score: float | None
    rescued: dict[str, Precision]
    attempts: int
    rounded: bool = False


class PlanRefiner:
    """Refines plans one by one: biases corrected under exactly the plan, weights rounded as was learned for one.

    Args:
        correct: Measures the bias corrections of exactly one plan that is refined otherwise already.
        kept: The refinements that all plans share, in the place of which come those of its own.
        roundings: How weights are rounded in place of the roundings shared; None leaves these.
    """

    def __init__(
        self,
        correct: Callable[[Refinements, PrecisionPlan], BiasCorrections],
        kept: Refinements,
        roundings: Roundings | None,
    ) -> None:
        self._correct, self._kept, self._roundings = correct, kept, roundings
        self._made: dict[PrecisionPlan, Own] = {}

    def own(self, plan: PrecisionPlan) -> Own:
        """What is made for exactly `plan`; the calibration data is run once for it."""
        if plan not in self._made:
            rounded = self._refinements(plan, Own({}, self._roundings))
            self._made[plan] = Own(self._correct(rounded, plan), self._roundings)
        return self._made[plan]

    def refinements(self, plan: PrecisionPlan) -> Refinements:
        """The refinements that all plans share, and those of `plan` itself."""
        return self._refinements(plan, self.own(plan))

    def marks(self, plan: PrecisionPlan) -> tuple[str, ...]:
        """What tells `plan` so refined from the plain one, in words for a key; nothing is made for it."""
        return self._refinements(plan, Own({}, self._roundings)).marks(plan)

    def _refinements(self, plan: PrecisionPlan, own: Own) -> Refinements:
        return replace(self._kept, own={plan.digest: own})


def refine_for_plan(
    problem: Problem,
    found: Evaluation,
    evaluate: Evaluator,
    most_attempts: int = _MOST_ATTEMPTS,
    progress: Progress = lambda done, total: None,
) -> Refined:
    """Measure the plan that was found with its own refinement, then try to bring more groups down.

    Its own refinement is kept if the score is not lower and the file that is delivered keeps the requirement. Then
    groups that may take one more step down the ladder are tried one by one, widest precision first and in the order of
    the ranking; a step is taken if it makes the plan cost less and, refined for itself, the plan and its file keep the
    requirement. Where the problem has a limit, none is tried.

    Args:
        problem: What was searched, on the ladder of the plan.
        found: What the search chose.
        evaluate: Scores plans, and their files, that are refined for exactly that plan.
        most_attempts: How many steps are tried, at most.
        progress: Told how many plans were scored, of how many there may be.
    """
    scored = count(1)
    own = replace(problem, evaluate=evaluate)
    best, refined = found, None
    if not problem.is_uniform(found.plan):
        refined = evaluate.score(found.plan)
        progress(next(scored), most_attempts + 1)
        if refined.value >= found.score.value:
            confirmed = own.confirmed(replace(found, score=refined, delivered=None))
            best = confirmed if confirmed.feasible else found
    # Where the latency is the limit, nobody asked for a plan that is faster still.
    walk = _Walk(own, best, 0 if problem.limit else most_attempts, lambda: progress(next(scored), most_attempts + 1))
    for rung in range(len(problem.ladder) - 1):
        walk.descend(rung)
    return Refined(
        walk.best, walk.best is not found, None if refined is None else refined.value, walk.rescued, walk.attempts
    )


def with_chosen(result: SearchResult, chosen: Evaluation) -> SearchResult:
    """`result` with `chosen` as its outcome and at the end of its path, in place of what was known of that plan."""
    if chosen == result.chosen:
        return result
    others = tuple(tried for tried in result.path if tried.plan != chosen.plan)
    return replace(result, chosen=chosen, path=(*others, chosen))


class _Walk:
    """Steps down the ladder from one plan."""

    def __init__(self, problem: Problem, best: Evaluation, most_attempts: int, scored: Callable[[], None]) -> None:
        self._problem, self._most_attempts, self._scored = problem, most_attempts, scored
        self.best, self.attempts = best, 0
        self.rescued: dict[str, Precision] = {}

    def descend(self, rung: int) -> None:
        """Try every group that may go from this rung to the next."""
        precision = self._problem.ladder[rung + 1]
        for group in self._problem.movable(self.best.plan, rung):
            if self.attempts == self._most_attempts:
                return
            self._step(self.best.plan.replace({group: precision}), group, precision)

    def _step(self, plan: PrecisionPlan, group: str, precision: Precision) -> None:
        if self._problem.cost.of(plan) > self.best.cost * (1 - _LEAST_GAIN):
            return
        self.attempts += 1
        note = f"{group} to {precision}, refined for the plan"
        tried = self._problem.evaluation(plan, self._problem.judged, note)
        if tried.feasible and not tried.complete:  # it is to be delivered
            tried = self._problem.evaluation(plan, self._problem.measured, note)
        self._scored()
        self._problem.notify(tried)
        if tried.feasible and (confirmed := self._problem.confirmed(tried)).feasible:
            self.best = confirmed
            self.rescued[group] = precision
