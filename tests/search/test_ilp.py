"""Integer programming and the frontier on networks with the real costs of boundaries, against every plan there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.drawn_groups import groupings
from tests.fixtures_groups import make_chain, make_group, make_grouping
from tests.search.evaluators import Answers, cost_of
from trt_mpq.errors import TargetNotReachable
from trt_mpq.latency.cost_terms import kernel_terms
from trt_mpq.latency.roofline import LatencyModel
from trt_mpq.latency.target import target_from_name
from trt_mpq.search import Bisection, Budget, Greedy, IntegerProgram, Limit, Pareto, Problem
from trt_mpq.search.costs import Cost
from trt_mpq.search.prediction import sensitivities
from trt_mpq.types import Grouping, Precision, PrecisionPlan, Ranking, Score, SearchResult

FP16, FP8, INT8, INT4 = Precision.FP16, Precision.FP8, Precision.INT8, Precision.INT4


def problem_on(
    grouping: Grouping, harm: Mapping[str, float], allowed: float, ladder: tuple[Precision, ...] = (FP16, INT8)
) -> Problem:
    """Accuracy falls by the harm of every group in 8 bit, which is what the ranking says."""
    latency = LatencyModel(grouping, target_from_name("l4"), 4)
    return Problem(
        grouping=grouping,
        ladder=ladder,
        ranking=Ranking("given", 0, tuple(harm), {p: {g: float(h) for g, h in harm.items()} for p in ladder[1:]}),
        evaluate=Answers(lambda plan: Score(-float(sum(harm[g] for g, p in plan.assignments if p.quantized)), None, 1)),
        latency=Cost(latency.plan_ms, kernel_terms(latency, {group.id: ladder for group in grouping.groups})),
        required=-allowed,
    )


def misses(result: SearchResult) -> int:
    return sum(not tried.feasible for tried in result.path)


def every_plan(problem: Problem) -> list[PrecisionPlan]:
    ids = [group.id for group in problem.groups]
    rows = product(problem.ladder, repeat=len(ids))
    return [PrecisionPlan.of(dict(zip(ids, made, strict=True))) for made in rows]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    grouping = draw(groupings(7))
    harm = {group.id: draw(st.integers(1, 20)) for group in grouping.groups}
    return problem_on(grouping, harm, draw(st.integers(0, 60)))


@settings(max_examples=40)
@given(problems())
def test_within_two_percent_of_the_optimum_where_the_ranking_is_right(problem: Problem):
    plans = every_plan(problem)
    optimum = min(problem.latency.of(plan) for plan in plans if problem.measured(plan).feasible)
    result = IntegerProgram().run(problem)
    assert result.chosen.latency_ms <= 1.02 * optimum
    assert misses(result) <= problem.share_of_greedy(4, 6) + len(problem.groups), "one by one where nothing held"


@settings(max_examples=20)
@given(problems(), st.floats(0, 1))
def test_within_a_latency_it_finds_the_least_harmful_plan(problem: Problem, share: float):
    plans = every_plan(problem)
    times = sorted(map(problem.latency.of, plans))
    most = times[int(share * (len(times) - 1))] * (1 + 1e-6)
    limit = Limit("is fast", most, problem.latency)
    result = IntegerProgram().run(replace(problem, limit=limit))
    best = max(problem.evaluate.score(plan).value for plan in plans if problem.latency.of(plan) <= most)
    assert result.chosen.latency_ms <= most
    assert result.chosen.score.value == best


@pytest.mark.parametrize("search", [IntegerProgram(), Pareto()])
def test_a_limit_below_every_plan_says_what_the_least_is(search):
    problem = problem_on(make_grouping(make_chain(3)), {"g0": 1, "g1": 1, "g2": 1}, 0)
    limit = Limit("takes at most 1e-09 ms", 1e-9, problem.latency)
    with pytest.raises(TargetNotReachable, match=r"plans tried takes at most 1e-09 ms: the least is 0\.0"):
        search.run(replace(problem, limit=limit))


def test_it_pays_no_boundary_that_greedy_pays():
    """A cheap group in the middle must not be lowered alone: two conversions for nothing."""
    chain = [replace(group, flops=10**3) for group in make_chain(5)]
    heavy = replace(make_group("g5", ["g4.out"], index=5), flops=10**10)
    problem = problem_on(make_grouping([*chain, heavy]), {"g0": 9, "g1": 9, "g2": 1, "g3": 9, "g4": 9, "g5": 2}, 5)
    found, greedy = IntegerProgram().run(problem).chosen, Greedy().run(problem).chosen
    assert found.plan.counts() == {FP16: 5, INT8: 1}
    assert found.plan["g5"] is INT8
    assert greedy.plan["g2"] is INT8
    assert found.latency_ms < greedy.latency_ms


def test_a_wrong_ranking_is_found_out():
    """The ranking calls the harmful group harmless; what plans score puts it right."""
    groups = [replace(group, flops=10**9) for group in make_chain(6)]
    problem = problem_on(make_grouping(groups), {"g0": 50} | {f"g{i}": 2 for i in range(1, 6)}, 8)
    wrong = {INT8: {"g0": 0.1} | {f"g{i}": 2.0 for i in range(1, 6)}}
    result = IntegerProgram().run(replace(problem, ranking=replace(problem.ranking, scores=wrong)))
    assert result.chosen.plan["g0"] is FP16
    assert result.chosen.plan.counts() == {FP16: 2, INT8: 4}


def test_prediction_leaves_out_what_is_unknown_and_lifts_what_is_chance():
    groups = make_chain(4)
    scores = {"g0": float("inf"), "g1": -0.5, "g2": 3.0, "g3": 1.0}
    problem = problem_on(make_grouping(groups), dict.fromkeys(scores, 0), 0)
    harm = sensitivities(replace(problem, ranking=Ranking("noise", 0, tuple(scores), {INT8: scores})))
    assert ("g0", INT8) not in harm
    assert harm["g1", INT8] == pytest.approx(0.02)
    assert harm["g2", INT8] == 3.0
    assert {harm[g.id, FP16] for g in groups} == {0.0}


def test_another_target_asks_the_frontier_for_nothing_new():
    groups = [replace(group, flops=10**9) for group in make_chain(8)]
    strict = problem_on(make_grouping(groups), {f"g{i}": i + 1 for i in range(8)}, 5)
    first, second = Pareto().run(strict), Pareto().run(replace(strict, required=-20.0))
    assert {e.plan for e in first.path} == {e.plan for e in second.path}
    assert second.chosen.latency_ms < first.chosen.latency_ms


@pytest.mark.parametrize("search", [IntegerProgram(), Bisection()])
def test_the_frontier_run_is_no_slower_than(search):
    groups = [replace(group, flops=10**9) for group in make_chain(8)]
    problem = problem_on(make_grouping(groups), {f"g{i}": i + 1 for i in range(8)}, 12)
    assert Pareto().run(problem).chosen.latency_ms <= 1.02 * search.run(problem).chosen.latency_ms


def alone(problem: Problem, *holding: str) -> Problem:
    """No plan keeps the score but those that lower nothing beside `holding`; a ranking that says the opposite."""

    def score(plan: PrecisionPlan) -> Score:
        lowered = {group for group, p in plan.assignments if p.quantized}
        return Score(1.0 if lowered <= set(holding) else 0.9, 0.01, 400)

    ranking = replace(problem.ranking, scores={INT8: {g.id: 9.0 if g.id in holding else 1e-6 for g in problem.groups}})
    return replace(problem, evaluate=Answers(score), ranking=ranking, required=0.99)


@pytest.mark.parametrize("holding", [("g13",), ("g20",)])
def test_it_never_ends_with_nothing_while_a_single_group_would_do(holding: tuple[str, ...]) -> None:
    """Every set that it offers misses, its patience and what it usually allows itself are at an end."""
    groups = make_chain(24)
    problem = alone(problem_on(make_grouping(groups), {group.id: 1 for group in groups}, 0), *holding)
    additive = cost_of(problem.grouping, problem.ladder, lambda plan: 100.0 - plan.counts().get(INT8, 0))
    result = IntegerProgram().run(replace(problem, latency=additive))
    assert {group for group, p in result.chosen.plan.assignments if p is INT8} == set(holding)
    assert misses(result) > problem.share_of_greedy(4, 6)
    spent = IntegerProgram().run(replace(problem, latency=additive, budget=Budget(evaluations=9)))
    assert spent.chosen.plan.counts() == {FP16: 24}, "a budget of the user's is a budget"
    assert spent.stopped == "--max-evaluations"


@pytest.mark.parametrize("share", [0.02, 0.1, 0.2])
def test_it_goes_on_while_it_finds_and_makes_no_more_evaluations_than_greedy(share: float) -> None:
    """Harms over three decades of which the ranking says nothing, so that what is found is found by trying."""
    harm = {f"g{number}": 10 ** (7 * number % 30 / 10) for number in range(30)}
    problem = problem_on(make_grouping(make_chain(30)), harm, share * sum(harm.values()))
    additive = cost_of(problem.grouping, problem.ladder, lambda plan: 100.0 - plan.counts().get(INT8, 0))
    alike = replace(problem.ranking, scores={INT8: dict.fromkeys(harm, 1.0)})
    result = IntegerProgram().run(replace(problem, latency=additive, ranking=alike))
    patience, path = problem.share_of_greedy(4, 6), result.path
    assert misses(result) > patience
    assert sum(not tried.feasible for tried in path[path.index(result.chosen) :]) <= patience
    assert len(path) <= problem.share_of_greedy(1, 0)


def test_harms_count_where_scores_are_those_of_groups_together() -> None:
    """Scores that add up what was chosen before would count the first group in every one."""
    problem = problem_on(make_grouping(make_chain(3)), {"g0": 1, "g1": 2, "g2": 3}, 0)
    cumulative = replace(problem.ranking, scores={INT8: {"g0": 1.0, "g1": 3.0, "g2": 6.0}})
    own = replace(cumulative, harms=problem.ranking.scores)
    assert sensitivities(replace(problem, ranking=own)) == sensitivities(problem)
    assert sensitivities(replace(problem, ranking=cumulative)) != sensitivities(problem)


def test_steps_shorten_where_plans_miss_in_a_row_and_lengthen_again() -> None:
    """No plan of more than a few groups holds, whatever is believed of them one by one."""
    groups = make_chain(24)
    problem = problem_on(make_grouping(groups), {group.id: 1 for group in groups}, 0)
    additive = cost_of(problem.grouping, problem.ladder, lambda plan: 100.0 - plan.counts().get(INT8, 0))

    def score(plan: PrecisionPlan) -> Score:
        return Score(0.99 if plan.counts().get(INT8, 0) <= 3 else 0.98, 0.01, 400)

    result = IntegerProgram().run(replace(problem, latency=additive, evaluate=Answers(score), required=0.99))
    lowered = [tried.plan.counts().get(INT8, 0) for tried in result.path]
    assert lowered[:2] == [0, 24]
    first = next(step for step, count in enumerate(lowered) if 0 < count <= 3)
    shrinking = lowered[3:first]
    assert shrinking == sorted(shrinking, reverse=True), "not further after a miss than before it"
    assert result.chosen.plan.counts()[INT8] == 3
    assert "one by one" not in result.chosen.note


def test_a_hint_is_tried_before_anything_but_uniform_plans_and_nothing_slower_than_the_bound_is_looked_for() -> None:
    """Of six groups that do equal harm three may be lowered."""
    problem = problem_on(make_grouping(make_chain(6)), dict.fromkeys((f"g{i}" for i in range(6)), 10), allowed=35)
    plain = IntegerProgram().run(problem)
    hint = problem.grouping.uniform(FP16).replace({"g0": INT8})
    told = IntegerProgram().run(replace(problem, hint=hint))
    assert [tried.plan for tried in told.path[:3]] == [*(tried.plan for tried in plain.path[:2]), hint]
    assert told.chosen.cost == plain.chosen.cost
    bound = IntegerProgram().run(replace(problem, below=plain.chosen.cost))
    assert all(tried.cost < plain.chosen.cost for tried in bound.path[2:])
    nothing = IntegerProgram().run(replace(problem, below=0.0))
    assert len(nothing.path) == 2, "not one group at a time either"
