"""Searches that ask what the delivered file of a plan scores: no plan is chosen whose file misses the target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures_groups import make_chain
from tests.search.evaluators import Answers
from tests.search.test_search_contract import make_problem, problems
from trt_mpq.errors import TargetNotReachable
from trt_mpq.search import SEARCHES, Limit, Problem, search_from_name
from trt_mpq.search.ladders import merged
from trt_mpq.types import Evaluation, Precision, PrecisionPlan, Score

FP16, INT8 = Precision.FP16, Precision.INT8
HARM = {"g0": 0.1, "g1": 0.2, "g2": 0.3, "g3": 9.0}
SPOILED = Score(-12.0, None, 5)


def sound(problem: Problem, plan: PrecisionPlan) -> Score:
    return problem.evaluate.score(plan)


class Files:
    """Files that score as their plans do, but for every `nth` plan, by its digest, whose file scores nothing."""

    def __init__(self, problem: Problem, nth: int) -> None:
        self._problem, self._nth = problem, nth
        self.asked: list[PrecisionPlan] = []

    def __call__(self, plan: PrecisionPlan) -> Score:
        self.asked.append(plan)
        misses = int(plan.digest, 16) % self._nth == 0
        return Score(self._problem.required - 1, None, 5) if misses else self._problem.evaluate.score(plan)


def with_files(problem: Problem, delivered: Callable[[PrecisionPlan], Score]) -> Problem:
    return replace(problem, evaluate=Answers(problem.evaluate.score, delivered=delivered))


@pytest.mark.parametrize("name", sorted(SEARCHES))
@given(problem=problems(), nth=st.integers(1, 4))
def test_no_plan_is_chosen_whose_file_misses(name: str, problem: Problem, nth: int) -> None:
    files = Files(problem, nth)
    try:
        result = search_from_name(name).run(with_files(problem, files))
    except TargetNotReachable:
        return
    assert len(files.asked) == len(set(files.asked))
    if result.chosen.plan == problem.grouping.uniform(problem.ladder[0]):
        assert result.chosen.delivered is None, "there is nothing else to deliver"
    else:
        assert result.chosen.delivered is not None
        assert result.chosen.delivered.value >= problem.required
    assert sorted(plan.digest for plan in files.asked) == sorted(t.plan.digest for t in result.path if t.delivered)
    if name != "ilp":  # which asks for files as it goes
        refused = {tried.plan for tried in result.path if tried.delivered and not tried.feasible}
        assert refused | {result.chosen.plan} >= set(files.asked)


def test_ilp_goes_on_where_a_file_misses_and_remembers_why() -> None:
    problem = make_problem(make_chain(4), (FP16, INT8), HARM, -11.0)
    alone = search_from_name("ilp").run(problem).chosen
    assert alone.plan.counts()[INT8] == 3

    def delivered(plan: PrecisionPlan) -> Score:
        return SPOILED if plan == alone.plan else sound(problem, plan)

    result = search_from_name("ilp").run(with_files(problem, delivered))
    assert result.chosen.plan.counts()[INT8] == 2
    (refused,) = [tried for tried in result.path if tried.plan == alone.plan]
    assert refused == replace(alone, feasible=False, delivered=SPOILED)


def test_ilp_learns_from_a_file_that_misses_where_the_plan_itself_loses_nothing() -> None:
    """Few samples, so that no plan seems to lose any: only the file of a plan with many groups in INT8 does."""
    groups = make_chain(12)
    flat = make_problem(groups, (FP16, INT8), {group.id: 1.0 for group in groups}, 0.947)

    def delivered(plan: PrecisionPlan) -> Score:
        loss = 0.002 if plan.counts().get(INT8, 0) > 8 else 0.0
        return Score(0.948 - loss, None, 500)

    problem = replace(flat, evaluate=Answers(lambda plan: Score(0.948, 0.01, 500), delivered=delivered))
    result = search_from_name("ilp").run(problem)
    assert 5 <= result.chosen.plan.counts()[INT8] <= 8
    assert len(result.path) <= problem.share_of_greedy(1, 0)


def test_once_a_file_missed_ilp_builds_on_no_plan_whose_file_was_not_asked() -> None:
    """Of plans with more than 8 of 20 groups in INT8 the files miss, which their plans do not tell."""
    groups, files = make_chain(20), list[PrecisionPlan]()
    flat = make_problem(groups, (FP16, INT8), {group.id: 1.0 for group in groups}, 0.947)

    def score(plan: PrecisionPlan) -> Score:
        return Score(0.948 - 0.0001 * plan.counts().get(INT8, 0), 0.001, 500)

    def delivered(plan: PrecisionPlan) -> Score:
        files.append(plan)
        return Score(0.94, 0.001, 500) if plan.counts().get(INT8, 0) > 8 else score(plan)

    result = search_from_name("ilp").run(replace(flat, evaluate=Answers(score, delivered=delivered)))
    first = next(number for number, tried in enumerate(result.path) if tried.delivered and not tried.feasible)
    best = min(tried.cost for tried in result.path[:first] if tried.feasible)
    assert len(result.path) > first + 2
    for tried in result.path[first + 1 :]:
        kept = score(tried.plan).value >= 0.947
        assert (tried.plan in files) == (kept and tried.cost < best)
        best = min(best, tried.cost) if tried.feasible else best


def test_where_files_keep_what_their_plans_do_few_are_asked() -> None:
    problem = make_problem(make_chain(4), (FP16, INT8), HARM, -11.0)
    files = Files(problem, 10**9)
    result = search_from_name("ilp").run(with_files(problem, files))
    held = [tried.plan for tried in result.path[1:] if tried.feasible]
    assert files.asked == list(dict.fromkeys((held[0], result.chosen.plan)))


def test_only_what_is_new_reaches_the_listener() -> None:
    heard: list[Evaluation] = []
    problem = make_problem(make_chain(4), (FP16, INT8), HARM, -11.0)
    alone = search_from_name("ilp").run(problem).chosen
    given_files = with_files(problem, lambda plan: SPOILED if plan == alone.plan else sound(problem, plan))
    result = merged(search_from_name("ilp"), [replace(given_files, notify=heard.append)])
    twice = {tried.plan for tried in heard if [other.plan for other in heard].count(tried.plan) > 1}
    assert twice == {alone.plan}
    assert result.chosen in result.path
    assert [tried.feasible for tried in result.path if tried.plan == alone.plan] == [False]


def test_with_a_limit_no_file_is_asked() -> None:
    problem = make_problem(make_chain(4), (FP16, INT8), HARM, -11.0)
    limit = Limit("takes at most 1e9 ms", 1e9, problem.latency)
    files = Files(problem, 1)
    search_from_name("ilp").run(replace(with_files(problem, files), limit=limit))
    assert files.asked == []


@pytest.mark.parametrize(("scored", "chosen"), [(-1.0, True), (-1.001, False)])
def test_what_is_asked_of_a_plan_is_asked_of_its_file(scored: float, chosen: bool) -> None:
    """However well the plan itself does: who runs the file in ONNX Runtime sees what was promised."""
    problem = make_problem(make_chain(4), (FP16, INT8), HARM, -1.0)
    plans = Answers(lambda plan: Score(0.0, None, 5), delivered=lambda plan: Score(scored, None, 5))
    result = search_from_name("uniform").run(replace(problem, evaluate=plans))
    assert (result.chosen.plan.counts() == {INT8: 4}) is chosen
