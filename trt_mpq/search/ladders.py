"""Which ladders a choice of precisions stands for, and the best result over all of them.

Whether INT8 and FP8 may share one strongly typed network is not known (one source says no), so unless
they are to be mixed, each 8-bit format is searched alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from trt_mpq.errors import TargetNotReachable
from trt_mpq.search.base import Budget, Problem, Search
from trt_mpq.types import Evaluation, Precision, PrecisionPlan, SearchResult

_EIGHT_BIT = (Precision.FP8, Precision.INT8)


def ladders_of(precisions: Sequence[Precision], mix_formats: bool) -> tuple[tuple[Precision, ...], ...]:
    """The ladders to search, each widest first; one per 8-bit format if several are chosen and not to be mixed."""
    ordered = tuple(p for p in Precision if p in precisions)
    formats = [p for p in _EIGHT_BIT if p in ordered]
    if mix_formats or len(formats) < 2:
        return (ordered,)
    return tuple(tuple(p for p in ordered if p is own or p not in _EIGHT_BIT) for own in formats)


def merged(algorithm: Search, problems: Sequence[Problem]) -> SearchResult:
    """Solve every problem and keep the best result; the path holds what all of them tried, each plan once.

    What one problem leaves of the budget is shared by those after it.

    Raises:
        TargetNotReachable: No problem has a feasible plan; it says how close the best came.
    """
    tried: dict[PrecisionPlan, Evaluation] = {}
    solved: list[SearchResult] = []
    failures: list[tuple[float, TargetNotReachable]] = []
    rungs: set[Precision] = set()
    for i, problem in enumerate(problems):
        rungs.update(problem.ladder)
        own = _Record(problem, tried)
        given = replace(problem, notify=own, budget=_share(problem, tried, of=len(problems) - i))
        try:
            solved.append(algorithm.run(given))
        except TargetNotReachable as failure:
            failures.append((own.best, failure))
    if not solved:
        raise max(failures, key=lambda failure: failure[0])[1]
    best = min((result.chosen for result in solved), key=problems[0].preference)
    ladder = tuple(p for p in Precision if p in rungs)
    stopped = next((result.stopped for result in solved if result.stopped), None)
    return SearchResult(solved[0].algorithm, ladder, best, tuple(tried.values()), stopped)


def _share(problem: Problem, tried: Iterable[PrecisionPlan], of: int) -> Budget:
    """An equal share of what is left of the budget."""
    plans, budget = tuple(tried), problem.budget
    spent = sum(map(problem.evaluate.seconds, plans))
    return Budget(
        None if budget.evaluations is None else max(0, budget.evaluations - len(plans)) // of,
        None if budget.seconds is None else max(0.0, budget.seconds - spent) / of,
    )


def problem_of(plan: PrecisionPlan, problems: Iterable[Problem]) -> Problem:
    """The problem on whose ladder `plan` is: the first that has most of its precisions; others are pinned."""
    return max(problems, key=lambda problem: len(set(plan.counts()) & set(problem.ladder)))


class _Record:
    """Collects the evaluations of all problems, and tells the listener of its own problem the new ones."""

    def __init__(self, problem: Problem, tried: dict[PrecisionPlan, Evaluation]) -> None:
        self._notify, self._tried = problem.notify, tried
        self.best = float("-inf")

    def __call__(self, evaluation: Evaluation) -> None:
        self.best = max(self.best, evaluation.score.value)
        known = self._tried.get(evaluation.plan)
        if known is not None and not _newer(evaluation, known):
            return
        self._tried[evaluation.plan] = evaluation
        if known is None or not known.complete or not evaluation.feasible:
            self._notify(evaluation)


def _newer(evaluation: Evaluation, known: Evaluation) -> bool:
    """Whether `evaluation` rests on more than what is known of the plan: on every sample, or on its file."""
    if evaluation.delivered or known.delivered:
        return known.delivered is None
    return evaluation.complete and not known.complete
