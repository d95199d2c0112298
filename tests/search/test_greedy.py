from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures_groups import make_chain, make_grouping
from tests.search.evaluators import Answers, cost_of
from trt_mpq.search import Greedy, Problem
from trt_mpq.types import Precision, PrecisionPlan, Ranking, Score

FP32, FP16, BF16, FP8, INT8, INT4 = map(Precision, ("fp32", "fp16", "bf16", "fp8", "int8", "int4"))
LADDERS = ((FP16, INT8), (FP16, FP8, INT8), (FP16, INT8, INT4))
BITS = {FP32: 32, FP16: 16, FP8: 9, INT8: 8, INT4: 4}


def make_additive(harm: dict[str, int], order: list[str], ladder: tuple[Precision, ...], budget: int) -> Problem:
    """A narrow group costs its harm once per step down the ladder; whole numbers, so sums are exact."""
    grouping = make_grouping(make_chain(len(harm)))
    depth = {precision: i for i, precision in enumerate(ladder)}
    ranking = {p: {name: float(order.index(name)) for name in harm} for p in ladder[1:]}
    return Problem(
        grouping,
        ladder,
        Ranking("given", 0, tuple(harm), ranking),
        Answers(lambda plan: Score(-float(sum(harm[name] * depth[p] for name, p in plan.assignments)), None, 1)),
        cost_of(grouping, ladder, lambda plan: float(sum(BITS[p] for _, p in plan.assignments))),
        -float(budget),
    )


@st.composite
def additive_problems(draw: st.DrawFn) -> tuple[Problem, dict[str, int]]:
    harm = {f"g{i}": draw(st.integers(0, 20)) for i in range(draw(st.integers(1, 10)))}
    order = draw(st.permutations(sorted(harm)))
    problem = make_additive(harm, order, draw(st.sampled_from(LADDERS)), draw(st.integers(0, 150)))
    return problem, harm


def knapsack_walk(problem: Problem, harm: dict[str, int]) -> dict[str, Precision]:
    """The same walk on the budget alone: a group moves if what is left pays for it."""
    left = -problem.required
    precisions = dict.fromkeys(harm, problem.ladder[0])
    for wide, narrow in zip(problem.ladder, problem.ladder[1:], strict=False):
        for name in problem.ranking.order(narrow):
            if precisions[name] is wide and harm[name] <= left:
                precisions[name] = narrow
                left -= harm[name]
    return precisions


@given(additive_problems())
def test_spends_the_budget_in_ranking_order(example: tuple[Problem, dict[str, int]]):
    problem, harm = example
    assert Greedy().run(problem).chosen.plan == PrecisionPlan.of(knapsack_walk(problem, harm))


@given(additive_problems())
def test_no_further_single_step_is_acceptable(example: tuple[Problem, dict[str, int]]):
    problem, _ = example
    plan = Greedy().run(problem).chosen.plan
    for name, precision in plan.assignments:
        rung = problem.ladder.index(precision)
        if rung + 1 < len(problem.ladder):
            further = plan.replace({name: problem.ladder[rung + 1]})
            assert problem.evaluate.score(further).value < problem.required


def test_steps_over_a_group_that_breaks_the_score():
    problem = replace(
        make_additive(dict.fromkeys(["g0", "g1", "g2", "g3"], 0), ["g0", "g1", "g2", "g3"], (FP16, INT8), 0),
        evaluate=Answers(lambda plan: Score(float(plan["g1"] is FP16), None, 1)),
        required=1.0,
    )
    result = Greedy().run(problem)
    assert [p for _, p in result.chosen.plan.assignments] == [INT8, FP16, INT8, INT8]
    assert [e.note for e in result.path[2:]] == ["to int8: g0", "to int8: g1", "to int8: g2", "to int8: g3"]


def test_only_groups_that_took_the_last_step_take_the_next():
    problem = make_additive({"g0": 10, "g1": 1}, ["g0", "g1"], (FP16, INT8, INT4), 2)
    result = Greedy().run(problem)
    assert result.chosen.plan == PrecisionPlan.of({"g0": FP16, "g1": INT4})
    assert all(e.plan["g0"] is not INT4 for e in result.path if not e.note.startswith("uniform"))
