"""Refinement for one plan, on problems whose scores are made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tests.fixtures_groups import make_grouping
from tests.search.evaluators import Answers, cost_of
from trt_mpq.emit import BiasCorrections, Own, Refinements
from trt_mpq.refine.for_plan import PlanRefiner, refine_for_plan, with_chosen
from trt_mpq.search import Problem
from trt_mpq.search.costs import Cost
from trt_mpq.search.ladders import problem_of
from trt_mpq.types import (
    Evaluation,
    Judgement,
    LayerGroup,
    Precision,
    PrecisionPlan,
    Ranking,
    Score,
    SearchResult,
)

FP16, INT8, INT4, FP8 = Precision.FP16, Precision.INT8, Precision.INT4, Precision.FP8
MILLISECONDS = {FP16: 2.0, INT8: 1.0, INT4: 0.5, FP8: 1.0}
NAMES = "abcdef"


def group(index: int, excluded: tuple[Precision, ...] = ()) -> LayerGroup:
    name = NAMES[index]
    return LayerGroup(name, index, "Conv", (name,), (), (), {}, 1, 1, dict.fromkeys(excluded, "no"))


def latency(plan: PrecisionPlan) -> float:
    return sum(MILLISECONDS[precision] for _, precision in plan.assignments)


def problem(ladder: tuple[Precision, ...] = (FP16, INT8), groups: int = 6, required: float = 0.9) -> Problem:
    """Sensitivity falls with the number of the group: f is the least sensitive."""
    names = tuple(NAMES[:groups])
    scores = {p: {name: -float(i) for i, name in enumerate(names)} for p in ladder[1:]}

    def refuse(plan: PrecisionPlan) -> Score:
        raise AssertionError("only plans refined for themselves are evaluated")

    ranking, grouping = Ranking("made up", 0, names, scores), make_grouping(tuple(map(group, range(groups))))
    return Problem(grouping, ladder, ranking, Answers(refuse), cost_of(grouping, ladder, latency), required)


def plan_of(**precisions: Precision) -> PrecisionPlan:
    return PrecisionPlan.of(dict.fromkeys(NAMES, FP16) | precisions)


def found(plan: PrecisionPlan, score: float = 0.95) -> Evaluation:
    return Evaluation(plan, Score(score, None, 10), latency(plan), feasible=True, note="found")


class Scores(Answers):
    """Scores plans by `function`, and files by `files` or alike, and remembers which."""

    def __init__(
        self, function: Callable[[PrecisionPlan], float], files: Callable[[PrecisionPlan], float] | None = None
    ) -> None:
        self.asked: list[PrecisionPlan] = []
        self.files: list[PrecisionPlan] = []

        def remembering(
            asked: list[PrecisionPlan], by: Callable[[PrecisionPlan], float]
        ) -> Callable[[PrecisionPlan], Score]:
            def score(plan: PrecisionPlan) -> Score:
                asked.append(plan)
                return Score(by(plan), None, 10)

            return score

        def file(plan: PrecisionPlan) -> Score:
            self.files.append(plan)
            score = (files or function)(plan)
            return Score(score, None, 10)

        super().__init__(remembering(self.asked, function), delivered=file)


@pytest.mark.parametrize(("own", "kept"), [(0.97, True), (0.95, True), (0.94, False)])
def test_own_corrections_stay_unless_the_score_falls(own: float, kept: bool) -> None:
    plan = plan_of(e=INT8, f=INT8)
    refined = refine_for_plan(problem(), found(plan), Scores(lambda p: own if p == plan else 0.0))
    assert refined.own is kept
    assert refined.chosen.plan == plan
    assert refined.chosen.score.value == (own if kept else 0.95)
    assert refined.refined_score == own
    assert refined.rescued == {}


def test_groups_are_tried_in_the_order_of_the_ranking_and_stay_where_the_target_is_kept() -> None:
    """d and b hurt too much."""
    scores = Scores(lambda plan: 0.95 - 0.2 * (plan["d"] is INT8) - 0.2 * (plan["b"] is INT8))
    refined = refine_for_plan(problem(), found(plan_of(e=INT8, f=INT8)), scores)
    assert refined.rescued == {"c": INT8, "a": INT8}
    assert refined.chosen.plan == plan_of(a=INT8, c=INT8, e=INT8, f=INT8)
    assert refined.chosen.latency_ms == latency(refined.chosen.plan)
    assert scores.asked == [
        plan_of(e=INT8, f=INT8),
        plan_of(d=INT8, e=INT8, f=INT8),
        plan_of(c=INT8, e=INT8, f=INT8),
        plan_of(b=INT8, c=INT8, e=INT8, f=INT8),
        plan_of(a=INT8, c=INT8, e=INT8, f=INT8),
    ]


def test_attempts_are_bounded() -> None:
    scores = Scores(lambda plan: 0.95 if plan == plan_of(f=INT8) else 0.1)
    refined = refine_for_plan(problem(), found(plan_of(f=INT8)), scores, most_attempts=2)
    assert refined.attempts == 2
    assert len(scores.asked) == 3
    assert refined.chosen.plan == plan_of(f=INT8)


def test_what_is_no_faster_is_not_tried() -> None:
    slow = replace(problem(), latency=Cost(lambda plan: 1.0, problem().latency.terms))
    scores = Scores(lambda plan: 0.95)
    refined = refine_for_plan(slow, replace(found(plan_of(f=INT8)), latency_ms=1.0), scores)
    assert refined.attempts == 0
    assert scores.asked == [plan_of(f=INT8)]


def test_a_uniform_plan_already_has_its_own_corrections() -> None:
    given = found(PrecisionPlan.of(dict.fromkeys(NAMES, INT8)))
    scores = Scores(lambda plan: 1.0)
    refined = refine_for_plan(problem(), given, scores)
    assert (refined.own, refined.chosen, refined.refined_score) == (False, given, None)
    assert scores.asked == []


def test_every_rung_of_the_ladder_is_walked() -> None:
    """Everything may go to INT8, and all but a from there to INT4."""
    scores = Scores(lambda plan: 0.0 if plan["a"] is INT4 else 0.95)
    ladder = (FP16, INT8, INT4)
    given = found(PrecisionPlan.of({"a": INT8, "b": FP16, "c": INT4}))
    refined = refine_for_plan(problem(ladder, groups=3), given, scores)
    assert refined.chosen.plan.as_dict() == {"a": INT8, "b": INT4, "c": INT4}
    assert refined.rescued == {"b": INT4}


def test_a_group_that_is_excluded_stays() -> None:
    own = problem(groups=2)
    own = replace(
        own,
        grouping=make_grouping((group(0, (INT8,)), group(1))),
        ranking=Ranking("", 0, ("a", "b"), {INT8: {"b": 1.0}}),
    )
    refined = refine_for_plan(own, found(PrecisionPlan.of({"a": FP16, "b": FP16})), Scores(lambda plan: 1.0))
    assert refined.chosen.plan.as_dict() == {"a": FP16, "b": INT8}


def test_a_plan_whose_file_misses_is_not_taken() -> None:
    """Refined for itself, the file of the plan itself misses the target; so does that of the plan with d."""
    misses = {plan_of(e=INT8, f=INT8), plan_of(d=INT8, e=INT8, f=INT8)}
    scores = Scores(lambda plan: 0.96, lambda plan: 0.8 if plan in misses else 0.96)
    refined = refine_for_plan(problem(), found(plan_of(e=INT8, f=INT8)), scores)
    assert scores.files == [
        plan_of(e=INT8, f=INT8),
        plan_of(d=INT8, e=INT8, f=INT8),
        plan_of(c=INT8, e=INT8, f=INT8),
        plan_of(b=INT8, c=INT8, e=INT8, f=INT8),
        plan_of(a=INT8, b=INT8, c=INT8, e=INT8, f=INT8),
    ]
    assert refined.rescued == {"c": INT8, "b": INT8, "a": INT8}
    assert refined.chosen.delivered == Score(0.96, None, 10)
    alone = refine_for_plan(problem(), found(plan_of(e=INT8, f=INT8)), scores, most_attempts=0)
    assert not alone.own
    assert alone.chosen == found(plan_of(e=INT8, f=INT8))


def test_the_listener_hears_of_every_attempt() -> None:
    heard: list[Evaluation] = []
    listening = replace(problem(), notify=heard.append)
    refine_for_plan(listening, found(plan_of(f=INT8)), Scores(lambda plan: 0.92), most_attempts=8)
    assert [tried.note.split(" to ")[0] for tried in heard] == ["e", "d", "c", "b", "a"]


def test_progress_counts_the_plan_that_was_found_and_every_attempt() -> None:
    steps: list[tuple[int, int]] = []
    refined = refine_for_plan(
        problem(), found(plan_of(f=INT8)), Scores(lambda plan: 0.92), 8, lambda done, total: steps.append((done, total))
    )
    assert refined.attempts == 5
    assert steps == [(done, 9) for done in range(1, 7)]


def test_a_plan_is_corrected_once_behind_its_own_roundings() -> None:
    asked: list[tuple[Refinements, PrecisionPlan]] = []

    def correct(refinements: Refinements, plan: PrecisionPlan) -> BiasCorrections:
        asked.append((refinements, plan))
        return {("a", INT8): np.full(1, len(asked), np.float32)}

    shared = Refinements({("b", INT8): np.zeros(1, np.float32)}, {("b", INT8): np.ones(1, bool)})
    learned = {("a", INT8): np.zeros(1, bool)}
    refiner = PlanRefiner(correct, shared, learned)
    plan, other = plan_of(a=INT8, b=INT8), plan_of(b=INT8)
    marks = refiner.marks(plan)
    assert asked == [], "to tell plans apart costs nothing"
    own = refiner.own(plan)
    assert refiner.refinements(plan) == Refinements(shared.corrections, shared.roundings, {plan.digest: own})
    assert (own.roundings, [of for _, of in asked]) == (learned, [plan])
    assert asked[0][0] == Refinements(shared.corrections, shared.roundings, {plan.digest: Own({}, learned)})
    assert marks == refiner.refinements(plan).marks(plan) != shared.marks(plan)
    assert refiner.own(other).corrections["a", INT8] == 2
    assert len(asked) == 2


def test_the_path_ends_with_what_is_delivered_and_knows_every_plan_once() -> None:
    first, second = found(plan_of()), found(plan_of(f=INT8))
    result = SearchResult("greedy", (FP16, INT8), second, (first, second))
    assert with_chosen(result, second) is result
    better = replace(second, score=Score(0.99, None, 10))
    assert with_chosen(result, better).path == (first, better)
    other = found(plan_of(e=INT8, f=INT8))
    assert with_chosen(result, other) == SearchResult("greedy", (FP16, INT8), other, (first, second, other))


def test_the_problem_of_a_plan_is_the_one_with_its_formats() -> None:
    eight, floating = problem((FP16, INT8)), problem((FP16, FP8))
    assert problem_of(plan_of(f=FP8), (eight, floating)) is floating
    assert problem_of(plan_of(f=INT8, e=Precision.FP32), (floating, eight)) is eight
    assert problem_of(plan_of(), (floating, eight)) is floating


def test_steps_that_surely_miss_are_not_scored_on_every_sample() -> None:
    """Those that hold are, for one of them is delivered."""
    scored: list[PrecisionPlan] = []

    def score(plan: PrecisionPlan) -> Score:
        scored.append(plan)
        return Score(0.95, None, 10)

    def judge(plan: PrecisionPlan) -> Judgement:
        return Judgement(Score(0.0, None, 5), plan.counts()[INT8] == 3 and plan["d"] is INT8, complete=False)

    start = plan_of(e=INT8, f=INT8)
    answers = Answers(score, judge=judge, delivered=lambda plan: Score(0.95, None, 10))
    refined = refine_for_plan(problem(), found(start), answers)
    assert refined.rescued == {"d": INT8}
    assert refined.attempts == 4
    assert scored == [start, start.replace({"d": INT8})]
    assert refined.chosen.complete
