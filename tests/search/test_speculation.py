"""Searches that are run ahead: the same answers, the same path, and fewer times waited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures_groups import make_chain
from tests.search.evaluators import Answers
from tests.search.test_search_contract import make_problem, problems
from trt_mpq.errors import TargetNotReachable
from trt_mpq.search import SEARCHES, Evaluator, Problem, search_from_name
from trt_mpq.search.speculation import PlanQuery, SpeculativeEvaluator
from trt_mpq.types import Evaluation, Judgement, Precision, PrecisionPlan, Score, SearchResult

FP16, INT8 = Precision.FP16, Precision.INT8


class Notebook:
    """Knows what it was told to measure, must not be asked anything else, and counts how often somebody waited.

    Args:
        evaluate: Says what is measured.
        side_by_side: Plans measured at once.
    """

    def __init__(self, evaluate: Evaluator, side_by_side: int) -> None:
        self._evaluate, self.side_by_side = evaluate, side_by_side
        self.stops_early, self.delivered, self.seconds = evaluate.stops_early, evaluate.delivered, evaluate.seconds
        self.known: set[PlanQuery] = set()
        self.filled: list[tuple[PlanQuery, ...]] = []

    def score(self, plan: PrecisionPlan) -> Score:
        assert self.knows(PlanQuery(plan, False))
        return self._evaluate.score(plan)

    def judge(self, plan: PrecisionPlan) -> Judgement:
        assert self.knows(PlanQuery(plan, True))
        return self._evaluate.judge(plan)

    def knows(self, asked: PlanQuery) -> bool:
        return asked in self.known

    def fill(self, asked: Sequence[PlanQuery]) -> None:
        assert 1 <= len(asked) <= self.side_by_side
        assert not self.known & set(asked), "measured twice"
        self.known |= set(asked)
        self.filled.append(tuple(asked))


def solved(name: str, problem: Problem) -> tuple[SearchResult | None, list[Evaluation]]:
    told: list[Evaluation] = []
    try:
        return search_from_name(name).run(replace(problem, notify=told.append)), told
    except TargetNotReachable:
        return None, told


def foreseen(name: str, problem: Problem, side_by_side: int) -> tuple[Problem, Notebook]:
    """The problem, for a search that is run ahead, and what that asks."""
    notebook = Notebook(problem.evaluate, side_by_side)
    return replace(problem, evaluate=SpeculativeEvaluator(search_from_name(name), problem, notebook)), notebook


def evaluator(problem: Problem, judged: bool, files: bool) -> Answers:
    """With a judge that sees part of the samples, and errs on some plans; with files that miss, one in three."""
    score = problem.evaluate.score

    def judge(plan: PrecisionPlan) -> Judgement:
        right = score(plan).value >= problem.required
        return Judgement(Score(0.5, 0.1, 3), right ^ (int(plan.digest, 16) % 5 == 0), complete=False)

    def delivered(plan: PrecisionPlan) -> Score:
        return Score(problem.required - 1, None, 5) if int(plan.digest, 16) % 3 == 0 else score(plan)

    return Answers(score, judge=judge if judged else None, delivered=delivered if files else None)


@pytest.mark.parametrize("name", sorted(SEARCHES))
@given(problem=problems(), count=st.integers(1, 6), judged=st.booleans(), files=st.booleans())
def test_a_search_that_is_run_ahead_ends_the_same(
    name: str, problem: Problem, count: int, judged: bool, files: bool
) -> None:
    problem = replace(problem, evaluate=evaluator(problem, judged, files))
    ahead, _ = foreseen(name, problem, count)
    assert solved(name, ahead) == solved(name, problem)


@pytest.mark.parametrize(("name", "most"), [("greedy", 5), ("bisection", 4)])
def test_there_is_less_to_wait_for(name: str, most: int) -> None:
    """Sixteen groups and no harm until the last: greedy asks 18 plans, bisection 7; three answers ahead are 7 plans."""
    groups = make_chain(16)
    harm = {group.id: 0.0 for group in groups} | {groups[-1].id: 9.0}
    problem = make_problem(groups, (FP16, INT8), harm, -10.0)
    ahead, notebook = foreseen(name, problem, 7)
    alone = solved(name, problem)
    assert solved(name, ahead) == alone
    assert alone[0] is not None
    assert len(alone[0].path) / 4 < len(notebook.filled) <= most < len(alone[0].path)


def test_no_integer_program_is_solved_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = make_chain(8)
    harm = {group.id: 1.0 + group.index for group in groups}
    problem = make_problem(groups, (FP16, INT8), harm, -50.0)
    solved_programs: list[object] = []
    original = pytest.importorskip("scipy.optimize").milp

    def counted(*question, **options):
        solved_programs.append(question)
        return original(*question, **options)

    monkeypatch.setattr("scipy.optimize.milp", counted)
    alone = solved("ilp", problem)
    once = len(solved_programs)
    # Nothing is asked that the search itself does not ask.
    ahead, notebook = foreseen("ilp", replace(problem, solved={}), 1)
    assert solved("ilp", ahead) == alone
    assert len(notebook.filled) > 3
    assert len(solved_programs) == 2 * once > 0


def test_the_plan_that_is_asked_for_is_measured_first() -> None:
    groups = make_chain(6)
    problem = make_problem(groups, (FP16, INT8), {group.id: 1.0 for group in groups}, -7.0)
    ahead, notebook = foreseen("greedy", problem, 3)
    result, _ = solved("greedy", ahead)
    assert result is not None
    path = [tried.plan for tried in result.path]
    firsts = [filled[0].plan for filled in notebook.filled]
    assert firsts == [plan for plan in path if plan in firsts]
