"""Searches that ask a judge who stops early: who is asked what, and what is measured on every sample."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures_groups import make_chain
from tests.search.evaluators import Answers, cost_of
from tests.search.test_search_contract import make_problem, problems
from trt_mpq.errors import TargetNotReachable
from trt_mpq.search import SEARCHES, Problem, search_from_name
from trt_mpq.types import Judgement, Precision, PrecisionPlan, Score

FP16, INT8 = Precision.FP16, Precision.INT8


class Guessing:
    """A judge of a problem who sees a part of the samples, and is wrong on every `nth` plan."""

    def __init__(self, problem: Problem, nth: int) -> None:
        self._problem, self._nth = problem, nth
        self.judged: list[PrecisionPlan] = []

    def __call__(self, plan: PrecisionPlan) -> Judgement:
        self.judged.append(plan)
        right = self._problem.evaluate.score(plan).value >= self._problem.required
        return Judgement(Score(0.5, 0.1, 3), right ^ (len(self.judged) % self._nth == 0), complete=False)


@pytest.mark.parametrize("name", sorted(SEARCHES))
@given(problem=problems(), nth=st.integers(1, 5))
def test_a_wrong_judge_never_makes_a_search_choose_a_plan_that_misses(name: str, problem: Problem, nth: int):
    judge = Guessing(problem, nth)
    try:
        result = search_from_name(name).run(replace(problem, evaluate=Answers(problem.evaluate.score, judge=judge)))
    except TargetNotReachable:
        return
    assert result.chosen.complete
    assert result.chosen.score == problem.evaluate.score(result.chosen.plan)
    assert result.chosen.score.value >= problem.required


@pytest.mark.parametrize("name", sorted(SEARCHES))
def test_uniform_plans_are_measured_on_every_sample(name: str):
    groups = make_chain(4)
    problem = make_problem(groups, (FP16, INT8), {"g0": 0.1, "g1": 0.1, "g2": 0.1, "g3": 9.0}, -10.0)
    judge = Guessing(problem, 10**9)
    result = search_from_name(name).run(replace(problem, evaluate=Answers(problem.evaluate.score, judge=judge)))
    uniform = [problem.grouping.uniform(precision) for precision in problem.ladder]
    assert not set(uniform) & set(judge.judged)
    assert [tried.complete for tried in result.path if tried.plan in uniform] == [True, True]
    others = 0 if name == "pareto" else len(result.path) - 2  # a frontier is of scores, not of verdicts
    assert len(judge.judged) == len(set(judge.judged)) == others


@pytest.mark.parametrize("name", sorted(set(SEARCHES) - {"uniform", "pareto"}))
def test_plans_of_one_latency_are_all_measured_before_one_is_chosen(name: str):
    """A judge's score of a few samples may be above what every sample gives: the next of equals is not taken for it."""
    groups = make_chain(4)
    problem = make_problem(groups, (FP16, INT8), {"g0": 0.1, "g1": 0.1, "g2": 0.1, "g3": 9.0}, -10.0)
    level = cost_of(problem.grouping, problem.ladder, lambda plan: 1.0)
    judge = Guessing(problem, 10**9)
    answers = Answers(problem.evaluate.score, judge=judge)
    result = search_from_name(name).run(replace(problem, evaluate=answers, latency=level))
    assert result.chosen.complete
    assert result.chosen.score == problem.evaluate.score(result.chosen.plan)
