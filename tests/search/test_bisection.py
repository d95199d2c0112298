from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures_groups import make_chain, make_grouping
from tests.search.evaluators import Answers, cost_of
from trt_mpq.errors import TargetNotReachable
from trt_mpq.search import Bisection, Problem
from trt_mpq.types import LayerGroup, Precision, PrecisionPlan, Ranking, Score

FP32, FP16, BF16, FP8, INT8, INT4 = map(Precision, ("fp32", "fp16", "bf16", "fp8", "int8", "int4"))
LADDERS = ((FP16, INT8), (FP16, FP8, INT8), (FP16, INT8, INT4))
BITS = {FP32: 32, FP16: 16, FP8: 9, INT8: 8, INT4: 4}


@given(st.integers(0, 200), st.integers(1, 200))
def test_the_longest_feasible_prefix_is_found_in_few_steps(limit: int, longest: int):
    names = [f"g{i}" for i in range(longest)]
    ranking = Ranking("network order", 0, tuple(names), {INT8: {name: float(i) for i, name in enumerate(names)}})

    def score(plan: PrecisionPlan) -> Score:
        return Score(float(plan.counts().get(INT8, 0) <= limit), None, 1)

    result = Bisection().run(problem_of(make_chain(longest), (FP16, INT8), ranking, score, 1.0))
    assert result.chosen.plan == PrecisionPlan.of({name: INT8 if i < limit else FP16 for i, name in enumerate(names)})
    asked = [tried.plan.counts().get(INT8, 0) for tried in result.path]
    assert asked[:2] == [0, longest], "the uniform plans come first"
    assert len(set(asked)) == len(asked) <= ceil(log2(longest)) + 2


@st.composite
def monotone_problems(draw: st.DrawFn) -> Problem:
    """Narrowing any group never raises the score and always saves time; the ranking is any order at all."""
    groups = make_chain(draw(st.integers(1, 12)))
    names = tuple(group.id for group in groups)
    ladder = draw(st.sampled_from(LADDERS))
    harm = draw(st.fixed_dictionaries({name: st.floats(0, 1) for name in names}))
    combine: Callable[[list[float]], float] = draw(st.sampled_from((sum, max, lambda hits: sum(hits) ** 2)))

    def evaluate(plan: PrecisionPlan) -> Score:
        return Score(-combine([harm[name] * (32 - BITS[p]) for name, p in plan.assignments]), None, 1)

    scores = {p: draw(st.fixed_dictionaries({name: st.floats(0, 1) for name in names})) for p in ladder[1:]}
    required = evaluate(PrecisionPlan.uniform(groups, ladder[0], FP32)).value - draw(st.floats(0, 300))
    return problem_of(groups, ladder, Ranking("any", 0, names, scores), evaluate, required)


def problem_of(
    groups: tuple[LayerGroup, ...],
    ladder: tuple[Precision, ...],
    ranking: Ranking,
    score: Callable[[PrecisionPlan], Score],
    required: float,
) -> Problem:
    """A plan takes as many milliseconds as its groups have bits."""
    grouping = make_grouping(groups)
    latency = cost_of(grouping, ladder, lambda plan: float(sum(BITS[p] for _, p in plan.assignments)))
    return Problem(grouping, ladder, ranking, Answers(score), latency, required)


def longest_prefixes_by_brute_force(problem: Problem) -> PrecisionPlan:
    """Tries every prefix of the ranking, longest first, at every step of the ladder."""
    precisions = {group.id: problem.ladder[0] for group in problem.groups}
    for wide, narrow in zip(problem.ladder, problem.ladder[1:], strict=False):
        scores = problem.ranking.scores[narrow]
        order = [g for g in sorted(problem.ranking.groups, key=lambda g: scores[g]) if precisions[g] is wide]
        for count in range(len(order), -1, -1):
            candidate = {g: narrow if g in order[:count] else p for g, p in precisions.items()}
            if problem.evaluate.score(PrecisionPlan.of(candidate)).value >= problem.required:
                precisions = candidate
                break
    return PrecisionPlan.of(precisions)


@given(monotone_problems())
def test_finds_the_longest_prefix_of_every_step(problem: Problem):
    expected = longest_prefixes_by_brute_force(problem)
    result = Bisection().run(problem)
    assert expected in [evaluation.plan for evaluation in result.path if evaluation.feasible]
    assert result.chosen.latency_ms <= problem.latency.of(expected)
    uniform = [problem.grouping.uniform(p) for p in problem.ladder]
    if not any(problem.evaluate.score(plan).value >= problem.required for plan in uniform[1:]):
        assert result.chosen.plan == expected


def fails_with(culprits: set[str], count: int, ladder: tuple[Precision, ...] = (FP16, INT8)) -> Problem:
    """The score drops to 0 as soon as a culprit leaves fp16."""
    groups = make_chain(count)
    names = tuple(group.id for group in groups)
    scores = {p: {name: float(i) for i, name in enumerate(names)} for p in ladder[1:]}
    return problem_of(
        groups,
        ladder,
        Ranking("network order", 0, names, scores),
        lambda plan: Score(float(all(plan[c] is FP16 for c in culprits)), None, 1),
        1.0,
    )


def test_cuts_the_ranking_before_the_first_culprit():
    plan = Bisection().run(fails_with({"g5", "g7"}, 10)).chosen.plan
    assert [p for _, p in plan.assignments] == [INT8] * 5 + [FP16] * 5


def test_notes_say_how_long_the_prefix_was():
    notes = [evaluation.note for evaluation in Bisection().run(fails_with({"g3"}, 4)).path]
    assert notes == [
        "uniform fp16",
        "uniform int8",
        "to int8: the 2 least sensitive of 4",
        "to int8: the 3 least sensitive of 4",
    ]


def test_group_without_fp8_still_takes_the_step_to_int8():
    problem = fails_with(set(), 3, (FP16, FP8, INT8))
    stem = replace(problem.groups[0], excluded={FP8: "kernel volume above 32"})
    culprit = replace(problem.groups[2], excluded={INT8: "asked for"})
    result = Bisection().run(replace(problem, grouping=make_grouping((stem, problem.groups[1], culprit))))
    assert PrecisionPlan.of({"g0": INT8, "g1": INT8, "g2": FP8}) in [e.plan for e in result.path]


def test_group_that_overflows_half_stays_fp32():
    problem = fails_with(set(), 2)
    loud = replace(problem.groups[0], excluded={FP16: "overflow", INT8: "overflow"})
    grouping, kept = make_grouping((loud, problem.groups[1])), Answers(lambda plan: Score(1, None, 1))
    result = Bisection().run(replace(problem, grouping=grouping, evaluate=kept))
    assert result.chosen.plan == PrecisionPlan.of({"g0": FP32, "g1": INT8})


def test_does_not_walk_from_an_infeasible_start():
    problem = replace(fails_with(set(), 8), required=2.0)
    with pytest.raises(TargetNotReachable, match="none of 2 plans"):
        Bisection().run(problem)
