"""What every search promises. A search listed in `SEARCHES` is tested here without another line."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import ceil, log2
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures_groups import make_chain, make_grouping
from tests.search.evaluators import Answers, cost_of
from trt_mpq.errors import SettingsError, TargetNotReachable
from trt_mpq.search import SEARCHES, Budget, Problem, search_from_name
from trt_mpq.search.costs import Cost
from trt_mpq.types import Evaluation, LayerGroup, Precision, PrecisionPlan, Ranking, Score, SearchResult

FP32, FP16, BF16, FP8, INT8, INT4 = map(Precision, ("fp32", "fp16", "bf16", "fp8", "int8", "int4"))
LADDERS = ((FP16, INT8), (FP16, FP8, INT8), (FP16, INT8, INT4))
COST = {FP32: 0.0, FP16: 1.0, FP8: 2.0, INT8: 3.0, INT4: 4.0}
TIME = {FP32: 8.0, FP16: 4.0, FP8: 3.0, INT8: 2.0, INT4: 1.0}


def make_problem(
    groups: tuple[LayerGroup, ...],
    ladder: tuple[Precision, ...],
    harm: dict[str, float],
    required: float,
    **more: object,
) -> Problem:
    """Additive accuracy: a group costs its harm times how narrow it is. Narrower is faster."""

    def score(plan: PrecisionPlan) -> Score:
        return Score(-sum(harm[group] * COST[p] for group, p in plan.assignments), None, 100)

    def latency(plan: PrecisionPlan) -> float:
        return sum(TIME[p] for _, p in plan.assignments)

    scores = {p: {g.id: harm[g.id] * COST[p] for g in groups if g.allows(p)} for p in ladder[1:]}
    ranking, grouping = Ranking("test", 0, tuple(g.id for g in groups), scores), make_grouping(groups)
    cost = cost_of(grouping, ladder, latency)
    return replace(Problem(grouping, ladder, ranking, Answers(score), cost, required), **more)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Erratic accuracy (a table of hashes) and latency, random exclusions, a ranking that may be wrong."""
    ladder = draw(st.sampled_from(LADDERS))
    excluded = st.sets(st.sampled_from(ladder), max_size=2)
    groups = tuple(
        replace(group, excluded=dict.fromkeys(draw(excluded), "why not"))
        for group in make_chain(draw(st.integers(1, 9)))
    )
    salt = draw(st.integers(0, 2**16))

    def erratic(plan: PrecisionPlan, name: str) -> float:
        return crc32(f"{salt} {name} {plan.digest}".encode()) % 97 / 97

    return make_problem(
        groups,
        ladder,
        {g.id: draw(st.floats(0, 1)) for g in groups},
        draw(st.floats(0, 1)),
        evaluate=Answers(lambda plan: Score(erratic(plan, "score"), None, 1)),
        latency=cost_of(make_grouping(groups), ladder, lambda plan: erratic(plan, "latency")),
    )


def run(name: str, problem: Problem) -> tuple[SearchResult | None, list[PrecisionPlan]]:
    """The result, or None if nothing is feasible, and every plan that was evaluated, repeats included."""
    asked: list[PrecisionPlan] = []

    def score(plan: PrecisionPlan) -> Score:
        asked.append(plan)
        return problem.evaluate.score(plan)

    counted = Answers(score, delivered=problem.evaluate.delivered, seconds=problem.evaluate.seconds)
    try:
        return search_from_name(name).run(replace(problem, evaluate=counted)), asked
    except TargetNotReachable:
        return None, asked


@pytest.mark.parametrize("name", sorted(SEARCHES))
class TestContract:
    @given(problem=problems())
    def test_result_is_feasible_and_as_good_as_any_uniform_plan(self, name: str, problem: Problem):
        result, _ = run(name, problem)
        uniform = [problem.grouping.uniform(p) for p in problem.ladder]
        feasible = [plan for plan in uniform if problem.evaluate.score(plan).value >= problem.required]
        if result is None:
            assert not feasible
            return
        assert problem.evaluate.score(result.chosen.plan).value >= problem.required
        assert result.chosen.latency_ms == problem.latency.of(result.chosen.plan)
        assert all(result.chosen.latency_ms <= problem.latency.of(plan) for plan in feasible)

    @given(problem=problems())
    def test_nothing_feasible_on_the_path_is_better(self, name: str, problem: Problem):
        result, _ = run(name, problem)
        if result is not None:
            rivals = [(e.latency_ms, -e.score.value) for e in result.path if e.feasible]
            assert (result.chosen.latency_ms, -result.chosen.score.value) == min(rivals)

    @given(problem=problems())
    def test_path_is_what_was_evaluated_once_each_in_order(self, name: str, problem: Problem):
        result, asked = run(name, problem)
        assert max(Counter(asked).values()) == 1
        if result is not None:
            assert [e.plan for e in result.path] == asked
            assert all(e.feasible == (e.score.value >= problem.required) for e in result.path)

    @given(problem=problems())
    def test_every_plan_respects_the_groups(self, name: str, problem: Problem):
        _, asked = run(name, problem)
        for plan in asked:
            assert [group for group, _ in plan.assignments] == [group.id for group in problem.groups]
            for group, (_, precision) in zip(problem.groups, plan.assignments, strict=True):
                assert group.allows(precision) or precision is FP32
                assert precision in (*problem.ladder, FP32)

    @given(problem=problems())
    def test_same_problem_same_path(self, name: str, problem: Problem):
        assert run(name, problem) == run(name, problem)

    @given(harm=st.lists(st.floats(0, 1), min_size=4, max_size=4), required=st.floats(-9, 0), slower=st.booleans())
    def test_what_is_found_without_a_ranking_is_as_fast_as_what_is_found_with_one(
        self, name: str, harm: list[float], required: float, slower: bool
    ):
        """So it is where the fastest plan keeps the score, and where narrower is slower."""
        groups, ladder = make_chain(4), LADDERS[1]
        factor = -1 if slower else 1
        latency = cost_of(
            make_grouping(groups), ladder, lambda plan: sum(100 + factor * TIME[p] for _, p in plan.assignments)
        )
        problem = make_problem(
            groups, ladder, dict(zip((g.id for g in groups), harm, strict=True)), required, latency=latency
        )
        unranked = replace(problem, ranking=Ranking("", 0, (), {}), solved={})
        found, _ = run(name, problem)
        settles = name == "uniform" or slower
        if found is None and settles and name != "pareto":
            with pytest.raises(TargetNotReachable):
                search_from_name(name).unranked([unranked])
            return
        settled = search_from_name(name).unranked([unranked])
        if name == "pareto":
            assert settled is None
        elif name == "uniform":
            assert settled is not None
            assert (settled.chosen, settled.path) == (found.chosen, found.path)
        else:
            fastest = problem.grouping.uniform(FP16 if slower else INT8)
            assert (settled is not None) == (problem.evaluate.score(fastest).value >= required)
            assert settled is None or settled.chosen.plan == fastest == found.chosen.plan
            assert settled is None or len(settled.path) <= 2

    @given(problem=problems(), most=st.integers(1, 9))
    def test_a_budget_is_kept_and_the_best_so_far_is_the_result(self, name: str, problem: Problem, most: int):
        free, asked_freely = run(name, problem)
        result, asked = run(name, replace(problem, budget=Budget(evaluations=most)))
        assert len(asked) <= most
        assert asked[: len(asked_freely)] == asked_freely[:most], "a budget only ends a search, earlier or later"
        if result is not None and len(asked_freely) > most:
            assert result.stopped == "--max-evaluations"
        if free is not None and result is not None and len(asked) <= len(asked_freely):
            assert free.chosen.latency_ms <= result.chosen.latency_ms

    @given(problem=problems(), most=st.integers(1, 9))
    def test_seconds_are_those_recorded(self, name: str, problem: Problem, most: int):
        """Three a plan, whatever the clock says, so that a resumed search stops where the first one did."""
        budget = Budget(seconds=3.0 * most)
        timed = Answers(problem.evaluate.score, seconds=lambda plan: 3.0)
        _, asked = run(name, replace(problem, budget=budget, evaluate=timed))
        assert asked == run(name, problem)[1][:most]

    @given(problem=problems())
    def test_number_of_evaluations_is_bounded(self, name: str, problem: Problem):
        _, asked = run(name, problem)
        groups, steps = len(problem.groups), len(problem.ladder) - 1
        per_step = {"bisection": ceil(log2(groups)) + 1, "greedy": groups, "uniform": 0, "ilp": 8, "pareto": 16}
        assert len(asked) <= steps * per_step[name] + steps + 1

    @pytest.mark.parametrize("ladder", LADDERS)
    def test_takes_the_narrowest_everywhere_if_all_is_feasible(self, name: str, ladder: tuple[Precision, ...]):
        groups = make_chain(5)
        result, asked = run(name, make_problem(groups, ladder, dict.fromkeys((g.id for g in groups), 0.1), -1e9))
        assert result is not None
        assert result.chosen.plan.counts() == {ladder[-1]: 5}
        if name == "bisection":
            assert len(asked) == len(ladder)

    def test_nothing_feasible_names_the_best_and_the_way_out(self, name: str):
        groups = make_chain(3)
        problem = make_problem(groups, (FP16, INT8), {"g0": 0.5, "g1": 0.25, "g2": 0.25}, 0.0)
        with pytest.raises(
            TargetNotReachable, match=r"required score 0: .*uniform fp16: 3 x fp16\) scores -1; lower --"
        ):
            search_from_name(name).run(problem)

    def test_narrower_uniform_plan_may_win_when_the_widest_fails(self, name: str):
        problem = replace(
            make_problem(make_chain(3), (FP16, INT8), {"g0": 0, "g1": 0, "g2": 0}, 0.5),
            evaluate=Answers(lambda plan: Score(float(INT8 in plan.counts()), None, 1)),
        )
        result, _ = run(name, problem)
        assert result is not None
        assert result.chosen.plan.counts() == {INT8: 3}

    @pytest.mark.parametrize(("required", "expected"), [(-3.0, INT8), (-2.999, FP16)])
    def test_one_group_and_an_exact_limit(self, name: str, required: float, expected: Precision):
        result, _ = run(name, make_problem(make_chain(1), (FP16, INT8), {"g0": 1.0}, required))
        assert result is not None
        assert result.chosen.plan["g0"] is expected

    def test_ladder_of_one(self, name: str):
        result, asked = run(name, make_problem(make_chain(2), (FP16,), {"g0": 1.0, "g1": 1.0}, -9.0))
        assert result is not None
        assert asked == [result.chosen.plan]

    def test_reports_every_evaluation_as_it_happens(self, name: str):
        seen: list[Evaluation] = []
        harm = {f"g{i}": float(i) for i in range(6)}
        result, _ = run(name, make_problem(make_chain(6), (FP16, FP8, INT8), harm, -25.0, notify=seen.append))
        assert result is not None
        plans = [e for e in seen if not e.delivered]
        assert plans == [replace(e, delivered=None) for e in result.path]
        assert list({e.plan: e for e in seen}.values()) == list(result.path), "what is said last of a plan stays"
        if name != "ilp":  # which asks for the file of the first plan that holds
            assert seen[len(plans) :] == [e for e in result.path if e.delivered], "the file that is chosen comes last"
        assert all(evaluation.note for evaluation in seen)
        assert (result.algorithm, result.ladder) == (name, (FP16, FP8, INT8))

    def test_baselines_come_first(self, name: str):
        harm = {f"g{i}": float(i) for i in range(4)}
        result, _ = run(name, make_problem(make_chain(4), (FP16, FP8, INT8), harm, -15.0))
        assert result is not None
        assert [e.note for e in result.path[:3]] == ["uniform fp16", "uniform fp8", "uniform int8"]

    @pytest.mark.parametrize(
        ("harm", "expected"), [(1.0, "uniform fp16"), (-1.0, "uniform int8"), (0.0, "uniform fp16")]
    )
    def test_equal_latency_goes_to_the_higher_score_then_to_the_earlier(self, name: str, harm: float, expected: str):
        harms, groups = dict.fromkeys(("g0", "g1", "g2"), harm), make_chain(3)
        equal = cost_of(make_grouping(groups), (FP16, INT8), lambda plan: 1.0)
        result, _ = run(name, make_problem(groups, (FP16, INT8), harms, -100.0, latency=equal))
        assert result is not None
        assert result.chosen.note == expected

    def test_impossible_precision_fails_before_the_expensive_evaluation(self, name: str):
        def refuse(plan: PrecisionPlan) -> float:
            raise SettingsError("no fp16 here")

        asked: list[PrecisionPlan] = []
        problem = make_problem(make_chain(1), (FP16, INT8), {"g0": 1.0}, 0.0)
        with pytest.raises(SettingsError, match="no fp16 here"):
            search_from_name(name).run(
                replace(problem, latency=Cost(refuse, problem.latency.terms), evaluate=Answers(asked.append))
            )
        assert not asked


def test_unknown_search_lists_the_known():
    with pytest.raises(
        SettingsError, match="unknown search 'annealing': choose one of ilp, pareto, bisection, greedy, uniform"
    ):
        search_from_name("annealing")
