"""Which ladders are searched, and how their results become one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures_groups import make_chain, make_grouping
from tests.search.evaluators import Answers, cost_of
from trt_mpq.errors import TargetNotReachable
from trt_mpq.search import Bisection, Greedy, Problem, Uniform
from trt_mpq.search.ladders import ladders_of, merged
from trt_mpq.types import Evaluation, Precision, PrecisionPlan, Ranking, Score

FP16, FP8, INT8, INT4 = Precision.FP16, Precision.FP8, Precision.INT8, Precision.INT4
APART = [{FP8, INT8}]


@pytest.mark.parametrize(
    ("precisions", "mixed", "ladders"),
    [
        ((FP16, INT8), False, ((FP16, INT8),)),
        ((FP16, FP8), False, ((FP16, FP8),)),
        ((FP16, FP8, INT8), False, ((FP16, FP8), (FP16, INT8))),
        ((FP16, FP8, INT8), True, ((FP16, FP8, INT8),)),
        ((INT8, INT4, FP16), False, ((FP16, INT8, INT4),)),
        ((FP16, FP8, INT8, INT4), False, ((FP16, FP8, INT4), (FP16, INT8, INT4))),
        ((FP16, INT4), False, ((FP16, INT4),)),
    ],
)
def test_each_8_bit_format_gets_a_ladder_of_its_own_unless_mixing_is_asked_for(precisions, mixed, ladders):
    assert ladders_of(precisions, () if mixed else APART) == ladders


@given(st.sets(st.sampled_from([FP8, INT8, INT4]), min_size=1), st.booleans())
def test_every_precision_is_searched_and_every_ladder_is_ordered(formats, mixed):
    ladders = ladders_of((FP16, *formats), () if mixed else APART)
    assert set().union(*ladders) == {FP16, *formats}
    for ladder in ladders:
        assert ladder[0] is FP16
        assert list(ladder) == [p for p in Precision if p in ladder]
        assert mixed or not {FP8, INT8} <= set(ladder)


@dataclass
class World:
    """Four groups; a plan's score falls and its latency falls with every group that leaves FP16."""

    loss: dict[Precision, float]
    gain: dict[Precision, float]
    asked: list[PrecisionPlan] = field(default_factory=list)
    heard: list[Evaluation] = field(default_factory=list)

    def problem(self, ladder: tuple[Precision, ...], required: float) -> Problem:
        groups = make_chain(4)
        scores = {p: {g.id: float(i) for i, g in enumerate(groups)} for p in ladder[1:]}
        ranking, grouping = Ranking("test", 0, tuple(g.id for g in groups), scores), make_grouping(groups)
        return Problem(
            grouping, ladder, ranking, Answers(self.score, delivered=self.file),
            cost_of(grouping, ladder, self.latency), required, notify=self.heard.append,
        )  # fmt: skip

    def score(self, plan: PrecisionPlan) -> Score:
        self.asked.append(plan)
        return self.own_score(plan)

    def file(self, plan: PrecisionPlan) -> Score:
        return self.own_score(plan)

    def own_score(self, plan: PrecisionPlan) -> Score:
        return Score(1 - sum(self.loss.get(p, 0) for _, p in plan.assignments), None, 10)

    def latency(self, plan: PrecisionPlan) -> float:
        return 10 - sum(self.gain.get(p, 0) for _, p in plan.assignments)

    def solve(self, required: float, algorithm=None):
        ladders = ladders_of((FP16, FP8, INT8), APART)
        return merged(algorithm or Greedy(), [self.problem(ladder, required) for ladder in ladders])


@pytest.mark.parametrize("algorithm", [Greedy(), Bisection(), Uniform()])
def test_the_fastest_result_of_all_ladders_wins(algorithm):
    world = World({FP8: 0.01, INT8: 0.02}, {FP8: 1.0, INT8: 1.5})
    assert world.solve(0.9, algorithm).chosen.plan.counts() == {INT8: 4}
    assert world.solve(0.95, Uniform()).chosen.plan.counts() == {FP8: 4}


@pytest.mark.parametrize("algorithm", [Greedy(), Bisection(), Uniform()])
@pytest.mark.parametrize("required", [0.9, 0.93, 0.97, 1.0])
def test_formats_are_never_mixed(algorithm, required):
    result = World({FP8: 0.01, INT8: 0.02}, {FP8: 1.0, INT8: 1.5}).solve(required, algorithm)
    assert all(not {FP8, INT8} <= set(e.plan.counts()) for e in result.path)
    assert result.chosen.score.value >= required


def test_the_path_holds_every_plan_once_in_the_order_it_was_tried():
    world = World({FP8: 0.01, INT8: 0.02}, {FP8: 1.0, INT8: 1.5})
    result = world.solve(0.96)
    assert [e.plan for e in result.path] == list(dict.fromkeys(world.asked))
    assert result.path[0].note == "uniform fp16"
    plans = [replace(e, delivered=None) for e in result.path]
    assert world.heard == plans, "the listener hears of every plan once, and of no file that is right"
    assert result.chosen in result.path
    assert result.ladder == (FP16, FP8, INT8)
    assert result.algorithm == "greedy"


def test_equal_latencies_go_to_the_higher_score():
    result = World({FP8: 0.02, INT8: 0.01}, {FP8: 1.0, INT8: 1.0}).solve(0.9)
    assert result.chosen.plan.counts() == {INT8: 4}


def test_a_ladder_that_fails_leaves_its_plans_in_the_path():
    """Nothing but uniform INT8 is good enough, which is possible: rounding may help."""
    world = World({FP16: 0.1, FP8: 0.2}, {FP8: 1.0, INT8: 1.5})
    result = world.solve(0.95)
    assert result.chosen.plan.counts() == {INT8: 4}
    assert [e.plan.counts() for e in result.path][:2] == [{FP16: 4}, {FP8: 4}]
    assert result.ladder == (FP16, FP8, INT8)


def test_when_all_ladders_fail_the_best_plan_of_all_is_named():
    world = World({FP16: 0.1, FP8: 0.2, INT8: 0.05}, {})
    with pytest.raises(TargetNotReachable, match=r"the best \(uniform int8: 4 x int8\) scores 0.8"):
        world.solve(0.95)
