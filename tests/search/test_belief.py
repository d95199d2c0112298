"""What a search believes of harms: against Gaussian conditioning by hand, and against sensitivities that mislead."""

from __future__ import annotations

from dataclasses import replace
from math import erf, sqrt

import numpy as np
import pytest

from tests.fixtures_groups import make_chain
from tests.search.evaluators import Answers
from tests.search.test_search_contract import make_problem
from trt_mpq.search import IntegerProgram, Problem
from trt_mpq.search.prediction import Belief, Prediction
from trt_mpq.types import Evaluation, Precision, PrecisionPlan, Ranking, Score

FP16, INT8 = Precision.FP16, Precision.INT8
IDS = tuple(f"g{number}" for number in range(12))


def plan_of(lowered: tuple[str, ...]) -> PrecisionPlan:
    return PrecisionPlan.of({name: INT8 if name in lowered else FP16 for name in IDS})


def evaluation(lowered: tuple[str, ...], score: float, *, complete: bool = True) -> Evaluation:
    return Evaluation(plan_of(lowered), Score(score, 0.01, 400), 1.0, True, "", complete)


def test_the_chance_is_that_of_the_joint_gaussian() -> None:
    """The plan that is asked for and those that were seen as one Gaussian, of which the latter are known."""
    generator, rows = np.random.default_rng(0), np.array([[1.0, 1, 0, 0], [0, 1, 1, 1], [1, 1, 1, 1]])
    choices = {(name, INT8): place for place, name in enumerate("abcd")}
    before, spread, error = generator.random(4), generator.random(4), generator.random(3) / 10
    loss, luck, allowed = rows @ before * 1.1, 0.05, 1.5
    belief = Belief(choices, before, spread, rows, loss, error, luck, 0.0)
    asked = np.array([1.0, 0, 1, 1])
    joint = np.vstack([asked, rows]) @ np.diag(spread**2) @ np.vstack([asked, rows]).T
    joint += np.diag([luck**2, *error**2])
    told = np.linalg.inv(joint[1:, 1:])
    mean = asked @ before + joint[0, 1:] @ told @ (loss - rows @ before)
    deviation = sqrt(joint[0, 0] - joint[0, 1:] @ told @ joint[1:, 0])
    plan = PrecisionPlan((("a", INT8), ("c", INT8), ("d", INT8)))
    expected = 0.5 + 0.5 * erf((allowed - mean) / (deviation * sqrt(2)))
    assert belief.chance(plan, allowed) == pytest.approx(expected, rel=1e-9)
    assert sum(belief.expected()[choice] for choice in plan.assignments) == pytest.approx(mean, rel=1e-9)


def test_scores_are_trusted_as_far_as_plans_bear_them_out() -> None:
    """Sensitivities say that the first group is all that matters; the plans that were tried say that all are alike."""
    sensitivity = {
        (name, p): 10.0**-place if p is INT8 else 0.0 for place, name in enumerate(IDS) for p in (FP16, INT8)
    }
    prediction = Prediction(sensitivity, evaluation((), 0.9), 0.02)
    told = [evaluation((), 0.9), evaluation(IDS, 0.78)]
    alike = [*told, evaluation(IDS[1:], 0.79), evaluation(IDS[6:], 0.84), evaluation(IDS[::2], 0.84)]
    first = [*told, evaluation(IDS[1:], 0.9), evaluation(IDS[6:], 0.9), evaluation(IDS[::2], 0.78)]
    by_alike, by_first = (prediction.after(tried).expected() for tried in (alike, first))
    assert by_alike["g11", INT8] == pytest.approx(0.01, rel=0.5)
    assert by_alike["g0", INT8] == pytest.approx(0.01, rel=0.5)
    assert by_first["g0", INT8] > 0.08
    assert by_first["g11", INT8] < 0.005


def test_what_few_samples_say_counts_for_less() -> None:
    sensitivity = {(name, p): float(p is INT8) for name in IDS for p in (FP16, INT8)}
    prediction = Prediction(sensitivity, evaluation((), 0.9), 0.02)
    told = [evaluation((), 0.9), evaluation(IDS, 0.78)]
    whole, part = (
        prediction.after([*told, evaluation(IDS[:3], 0.8, complete=complete)]).expected()["g0", INT8]
        for complete in (True, False)
    )
    assert 0.01 < part < whole


def misleading(seed: int) -> Problem:
    """Harms that are alike, and luck of half of what is allowed; sensitivities in an order of their own, 10 orders."""
    groups, drawn = make_chain(24), np.random.default_rng(seed)
    luck = dict(zip((group.id for group in groups), drawn.normal(0, 0.001, 24), strict=True))
    scores = dict(zip(luck, (10.0 ** drawn.permutation(np.linspace(-10, 0, 24))).tolist(), strict=True))

    def score(plan: PrecisionPlan) -> Score:
        return Score(0.9 - sum(0.001 + luck[group] for group, p in plan.assignments if p is INT8), 0.01, 1000)

    problem = make_problem(groups, (FP16, INT8), dict.fromkeys(luck, 0.0), 0.888)
    return replace(problem, evaluate=Answers(score), ranking=Ranking("", 0, tuple(luck), {INT8: scores}))


def test_scores_of_many_orders_that_say_nothing_cost_little() -> None:
    """Half of the groups may be lowered on average, and more of those that happen to do no harm."""
    found = [IntegerProgram().run(misleading(seed)).chosen.plan.counts()[INT8] for seed in range(6)]
    assert np.mean(found) >= 14
