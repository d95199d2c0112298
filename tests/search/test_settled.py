"""The fastest plan of all is tried before anything is ranked, its file too."""

from __future__ import annotations

from dataclasses import replace

from tests.fixtures_groups import make_chain, make_grouping
from tests.search.evaluators import Answers
from tests.search.test_search_contract import make_problem
from trt_mpq.latency.cost_terms import kernel_terms
from trt_mpq.latency.roofline import LatencyModel
from trt_mpq.latency.target import target_from_name
from trt_mpq.search import Budget, Cost, Limit
from trt_mpq.search.milp import gap_between as milp_gap
from trt_mpq.search.settled import cheapest_plan, settled
from trt_mpq.types import Evaluation, Precision, PrecisionPlan, Ranking, Score

FP16, FP8, INT8 = Precision.FP16, Precision.FP8, Precision.INT8
HARM = {"g0": 0.1, "g1": 0.2, "g2": 0.3, "g3": 9.0}
EASY, HARD = -100.0, -11.0
UNRANKED = Ranking("", 0, (), {})


def problem_on(*ladder: Precision, required: float, **more: object):
    return replace(make_problem(make_chain(4), ladder, HARM, required, **more), ranking=UNRANKED)


def test_two_plans_settle_a_search_whose_cheapest_plan_keeps_the_score_and_the_listener_hears_both() -> None:
    heard: list[Evaluation] = []
    found = settled("ilp", [problem_on(FP16, INT8, required=EASY, notify=heard.append)])
    assert found is not None
    assert [tried.plan.counts() for tried in found.path] == [{FP16: 4}, {INT8: 4}]
    assert found.chosen == found.path[1]
    assert found.chosen.delivered is not None, "its file was asked"
    assert found.unranked == "the fastest plan meets the target"
    assert tuple(heard) == found.path


def test_nothing_is_settled_and_nothing_heard_where_it_misses_or_its_file_does() -> None:
    heard: list[Evaluation] = []
    assert settled("ilp", [problem_on(FP16, INT8, required=HARD, notify=heard.append)]) is None
    easy = problem_on(FP16, INT8, required=EASY, notify=heard.append)

    def delivered(plan: PrecisionPlan) -> Score:
        return Score(easy.required - 0.1, None, 5)

    assert settled("ilp", [replace(easy, evaluate=Answers(easy.evaluate.score, delivered=delivered))]) is None
    assert heard == []


def test_of_several_ladders_the_one_with_the_cheapest_plan_settles() -> None:
    problems = [problem_on(FP16, FP8, required=EASY), problem_on(FP16, INT8, required=EASY)]
    found = settled("greedy", problems)
    assert found is not None
    assert found.chosen.plan.counts() == {INT8: 4}
    assert FP8 not in {p for tried in found.path for p in tried.plan.counts()}, "slower, so that it does not matter"


def test_a_limit_and_a_budget_of_one_plan_settle_nothing() -> None:
    easy = problem_on(FP16, INT8, required=EASY)
    assert settled("ilp", [replace(easy, limit=Limit("takes at most 9 ms", 9.0, easy.latency))]) is None
    assert settled("ilp", [replace(easy, budget=Budget(evaluations=1))]) is None


def test_of_equally_fast_plans_the_one_that_lowers_least_is_tried() -> None:
    easy = problem_on(FP16, INT8, required=EASY)
    (first, *_), terms = easy.groups, easy.latency.terms
    flat = replace(terms, terms=tuple(term for term in terms.terms if term.clauses[0][0][0] != first.id))
    plan = cheapest_plan(replace(easy, latency=replace(easy.latency, terms=flat), solved={})).plan
    assert plan is not None
    assert plan.counts() == {FP16: 1, INT8: 3}
    assert plan[first.id] is FP16


def test_on_real_costs_the_solver_s_own_tolerance_is_no_gap() -> None:
    """Floating point leaves a gap of 1e-16 on most networks: that is exact, and settles."""
    grouping = make_grouping(make_chain(12))
    ladder = (FP16, FP8, INT8)
    latency = LatencyModel(grouping, target_from_name("l4"), 32)
    cost = Cost(latency.plan_ms, kernel_terms(latency, grouping.options(ladder)))
    harm = {group.id: 1.0 for group in grouping.groups}
    problem = replace(make_problem(make_chain(12), ladder, harm, -1e9), latency=cost, ranking=UNRANKED)
    assert cheapest_plan(problem).gap == 0.0
    assert settled("ilp", [problem]) is not None
    assert milp_gap(1000.0, 1000.0 - 1e-13) == 0.0
    assert milp_gap(1000.0, 990.0) == 0.01
