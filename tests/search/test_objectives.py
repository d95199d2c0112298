"""What a search minimises is a cost of the problem: every algorithm ends with the least of it, whatever it is."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from tests.fixtures_groups import make_group, make_grouping
from tests.search.evaluators import Answers, cost_of
from trt_mpq.search import SEARCHES, Problem, merged, search_from_name
from trt_mpq.types import Precision, PrecisionPlan, Ranking, Score

FP16, INT8 = Precision.FP16, Precision.INT8
LADDER = (FP16, INT8)
GROUPS = ("a", "b", "c")
MS = {"a": 5.0, "b": 1.0, "c": 1.0}
MJ = {"a": 1.0, "b": 1.0, "c": 5.0}
HARM = {"a": 0.1, "b": 0.2, "c": 0.15}


def saving(amounts: dict[str, float], plan: PrecisionPlan) -> float:
    return 10 - sum(amounts[group] for group, precision in plan.assignments if precision is INT8)


def score(plan: PrecisionPlan) -> Score:
    return Score(1 - sum(HARM[group] for group, precision in plan.assignments if precision is INT8), None, 100)


@pytest.fixture
def problem() -> Problem:
    grouping = make_grouping([make_group(name) for name in GROUPS])
    time, energy = (
        cost_of(grouping, LADDER, lambda plan, own=own: saving(own, plan))  # type: ignore[misc]
        for own in (MS, MJ)
    )
    energy = replace(energy, unit="mJ", less="more frugal", least="most frugal")
    ranking = Ranking("test", 1, GROUPS, {INT8: HARM})
    return Problem(grouping, LADDER, ranking, Answers(score), time, required=0.84, objective=energy)


@pytest.mark.parametrize("name", SEARCHES)
def test_the_plan_of_least_cost_is_found_and_says_its_latency_too(name: str, problem: Problem) -> None:
    plans = [PrecisionPlan.of(dict(zip(GROUPS, own, strict=True))) for own in product(LADDER, repeat=3)]
    feasible = [plan for plan in plans if score(plan).value >= problem.required]
    best = merged(search_from_name(name), [problem]).chosen
    if name in ("ilp", "pareto"):
        assert best.plan == min(feasible, key=lambda plan: saving(MJ, plan))
        assert best.plan != min(feasible, key=lambda plan: saving(MS, plan)), "or latency would do as well"
    assert best.cost == best.amount == saving(MJ, best.plan)
    assert best.latency_ms == saving(MS, best.plan)
    faster = merged(search_from_name(name), [replace(problem, objective=None)]).chosen
    assert faster.amount is None
    assert faster.cost == faster.latency_ms


def test_steps_say_what_was_looked_for(problem: Problem) -> None:
    notes = [tried.note for tried in search_from_name("ilp").run(problem).path]
    assert "most frugal that should keep the score" in notes
    assert not any("fast" in note for note in notes)


def test_it_is_settled_by_the_plan_of_least_cost(problem: Problem) -> None:
    easy = replace(problem, required=0.0)
    found = search_from_name("ilp").unranked([easy])
    assert found is not None
    assert found.unranked == "the most frugal plan meets the target"
