"""Searches that are run ahead: the same answers, the same path, and fewer times waited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures_groups import make_chain
from tests.search.test_search_contract import make_problem, problems
from trt_mpq.errors import TargetNotReachable
from trt_mpq.search import SEARCHES, Problem, search_from_name
from trt_mpq.search.frontier import Frontier
from trt_mpq.search.speculation import Asked, foreseeing
from trt_mpq.types import Evaluation, Judgement, Precision, PrecisionPlan, Score, SearchResult

FP16, INT8 = Precision.FP16, Precision.INT8


class Notebook:
    """Knows what it was told to measure, and counts how often somebody waited.

    Args:
        count: Plans measured side by side.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.known: set[Asked] = set()
        self.filled: list[tuple[Asked, ...]] = []

    def knows(self, asked: Asked) -> bool:
        return asked in self.known

    def fill(self, asked: Sequence[Asked]) -> None:
        assert 1 <= len(asked) <= self.count
        assert not self.known & set(asked), "measured twice"
        self.known |= set(asked)
        self.filled.append(tuple(asked))


def solved(name: str, problem: Problem) -> tuple[SearchResult | None, list[Evaluation]]:
    told: list[Evaluation] = []
    try:
        return search_from_name(name).run(replace(problem, notify=told.append)), told
    except TargetNotReachable:
        return None, told


def judging(problem: Problem) -> Problem:
    """The problem with a judge that sees part of the samples, and errs on some plans."""

    def judge(plan: PrecisionPlan) -> Judgement:
        right = problem.evaluate(plan).value >= problem.required
        return Judgement(Score(0.5, 0.1, 3), right ^ (int(plan.digest, 16) % 5 == 0), complete=False)

    return replace(problem, judge=judge)


def with_files(problem: Problem) -> Problem:
    """The problem with the files of plans, one in three of which misses the target."""

    def delivered(plan: PrecisionPlan) -> Score:
        return Score(problem.required - (int(plan.digest, 16) % 3 == 0), 0.0, 1)

    return replace(problem, delivered=delivered)


def watched(problem: Problem, notebook: Notebook) -> Problem:
    """The problem, which must not be asked what the notebook does not know."""

    def evaluate(plan: PrecisionPlan) -> Score:
        assert notebook.knows(Asked(plan, False))
        return problem.evaluate(plan)

    def judge(plan: PrecisionPlan) -> Judgement:
        assert notebook.knows(Asked(plan, True))
        assert problem.judge
        return problem.judge(plan)

    return replace(problem, evaluate=evaluate, judge=judge if problem.judge else None)


@pytest.mark.parametrize("name", sorted(SEARCHES))
@given(problem=problems(), count=st.integers(1, 6), judged=st.booleans(), files=st.booleans())
def test_a_search_that_is_run_ahead_ends_the_same(
    name: str, problem: Problem, count: int, judged: bool, files: bool
) -> None:
    problem = judging(problem) if judged else problem
    problem = with_files(problem) if files else problem
    notebook = Notebook(count)
    foreseen = foreseeing(search_from_name(name), watched(problem, notebook), notebook)
    assert solved(name, foreseen) == solved(name, problem)


@pytest.mark.parametrize(("name", "most"), [("greedy", 5), ("bisection", 4)])
def test_there_is_less_to_wait_for(name: str, most: int) -> None:
    """Sixteen groups and no harm until the last: greedy asks 18 plans, bisection 7; three answers ahead are 7 plans."""
    groups = make_chain(16)
    harm = {group.id: 0.0 for group in groups} | {groups[-1].id: 9.0}
    problem = make_problem(groups, (FP16, INT8), harm, -10.0)
    alone = len(solved(name, problem)[1])
    notebook = Notebook(7)
    foreseen = foreseeing(search_from_name(name), problem, notebook)
    assert solved(name, foreseen) == solved(name, problem)
    assert alone / 4 < len(notebook.filled) <= most < alone


def test_no_integer_program_is_solved_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = make_chain(8)
    harm = {group.id: 1.0 + group.index for group in groups}
    problem = make_problem(groups, (FP16, INT8), harm, -50.0)
    solved_programs: list[object] = []
    original = Frontier._solution

    def counted(self, *question):
        solved_programs.append(question)
        return original(self, *question)

    monkeypatch.setattr(Frontier, "_solution", counted)
    alone = solved("ilp", problem)
    once = len(solved_programs)
    notebook = Notebook(1)  # nothing is asked that the search itself does not ask
    fresh = replace(problem, solved={})
    assert solved("ilp", foreseeing(search_from_name("ilp"), fresh, notebook)) == alone
    assert len(notebook.filled) > 3
    assert len(solved_programs) == 2 * once


def test_the_plan_that_is_asked_for_is_measured_first() -> None:
    groups = make_chain(6)
    problem = make_problem(groups, (FP16, INT8), {group.id: 1.0 for group in groups}, -7.0)
    notebook = Notebook(3)
    path = [e.plan for e in solved("greedy", foreseeing(search_from_name("greedy"), problem, notebook))[1]]
    firsts = [filled[0].plan for filled in notebook.filled]
    assert firsts == [plan for plan in path if plan in firsts]
