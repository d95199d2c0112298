"""Which ladders a choice of precisions stands for, and the best result over all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from trt_mpq.errors import TargetNotReachable
from trt_mpq.search.base import Budget, Problem, Search
from trt_mpq.types import Evaluation, Precision, PrecisionPlan, SearchResult


def ladders_of(
    precisions: Iterable[Precision], apart: Collection[Collection[Precision]] = ()
) -> tuple[tuple[Precision, ...], ...]:
    """The ladders to search, each widest first: one for each of the formats that are to be in networks `apart`."""
    ladders = [tuple(p for p in Precision if p in precisions)]
    for formats in apart:
        ladders = [own for ladder in ladders for own in _without_company(ladder, formats)]
    return tuple(dict.fromkeys(ladders))


def _without_company(ladder: tuple[Precision, ...], formats: Collection[Precision]) -> Iterator[tuple[Precision, ...]]:
    """`ladder` with one of `formats` at a time."""
    found = [p for p in ladder if p in formats]
    for left_out in [{*found} - {own} for own in found] or [set()]:
        yield tuple(p for p in ladder if p not in left_out)


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
    gap = max((result.gap for result in solved if result.gap is not None), default=None)
    return SearchResult(solved[0].algorithm, ladder, best, tuple(tried.values()), stopped, gap=gap)


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
