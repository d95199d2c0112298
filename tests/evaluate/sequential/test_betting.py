"""The test by betting: exact over all orders of small sets, against a plain loop, and simulated on larger ones."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_mpq.evaluate.sequential import BettingTest

UNIT = (0.0, 1.0)
SHARES = st.sampled_from([0.0, 0.25, 0.5, 1.0])


def the_test(baseline, required: float, alpha: float, bounds=UNIT) -> BettingTest:
    return BettingTest(np.asarray(baseline, float), required, bounds, alpha)


@settings(max_examples=25)
@given(
    pairs=st.lists(st.tuples(SHARES, SHARES), min_size=3, max_size=6),
    alpha=st.sampled_from([0.5, 0.3, 0.1]),
    margin=st.sampled_from([-0.2, -1e-6, 0.0, 0.2]),
)
def test_no_set_is_decided_wrongly_in_more_orders_than_stated(pairs, alpha, margin):
    baseline, plan = np.array(pairs).T
    required = float(plan.mean()) - margin
    orders = list(permutations(range(len(plan))))
    wrong = 0
    for order in orders:
        drawn = np.array(order)
        verdict = the_test(baseline[drawn], required, alpha).decide(plan[drawn])
        wrong += verdict is not None and verdict != (margin >= 0)
    assert wrong <= alpha * len(orders)


def capital(differences: list[float], count: int, required: float) -> list[float]:
    """The gambler's capital after each sample, one by one, written down from the paper's formulas."""
    wealth, seen, course = 1.0, [], []
    for t, difference in enumerate(differences):
        mean = (required - sum(seen)) / (count - t)
        seen_mean, square = sum(seen) / (t + 20), (sum(d * d for d in seen) + 20 * 0.02) / (t + 20)
        edge = max(seen_mean - mean, 0.0)
        bet = min(edge / (square + edge**2), 0.6 / (mean + 1)) if mean > -1 else math.inf
        wealth *= 1 + bet * (difference - mean)
        course.append(wealth)
        seen.append(difference)
    return course


@given(data=st.data())
def test_decisions_are_those_of_the_formulas_one_by_one(data):
    count = data.draw(st.integers(4, 40))
    baseline = data.draw(st.lists(SHARES, min_size=count, max_size=count))
    plan = data.draw(st.lists(SHARES, min_size=count, max_size=count))
    required, alpha = data.draw(st.floats(0.05, 0.95)), data.draw(st.sampled_from([0.3, 0.05]))
    expected = None
    differences = [p - b for p, b in zip(plan, baseline, strict=True)]
    allowed = count * required - sum(baseline)
    for n in range(1, count + 1):
        if sum(plan[:n]) > count * required + 1e-6 or sum(plan[:n]) + count - n < count * required - 1e-6:
            expected = sum(plan[:n]) > count * required
            break
        gains = capital(differences[:n], count, allowed)[-1]
        losses = capital([-d for d in differences[:n]], count, -allowed)[-1]
        if max(gains, losses) >= 1 / alpha:
            expected = gains >= 1 / alpha
            break
    assert the_test(baseline, required, alpha).decide(np.array(plan)) == expected


@given(plan=st.lists(SHARES, min_size=2, max_size=60), required=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_what_the_remaining_samples_cannot_change_is_decided(plan, required, seed):
    scores = np.array(plan)
    baseline = np.random.default_rng(seed).permutation(scores)
    if abs(scores.mean() - required) > 1e-6:
        assert the_test(baseline, required, 1e-300).decide(scores) == (scores.mean() >= required)


@given(plan=st.lists(SHARES, min_size=30, max_size=80), required=st.floats(0.3, 0.7))
def test_the_unit_of_scores_does_not_matter(plan, required):
    scores = np.array(plan)
    baseline = scores[::-1].copy()
    for n in (10, 20, 30):
        own = the_test(baseline, required, 0.05).decide(scores[:n])
        wide = the_test(2 * baseline - 1, 2 * required - 1, 0.05, (-1.0, 1.0)).decide(2 * scores[:n] - 1)
        assert own == wide


def at_the_limit(count: int, changed: int, gained: int, generator: np.random.Generator):
    """0/1 scores of FP32 and a plan that loses `changed` right answers and gains others; sorted, as data may be."""
    right = int(0.9 * count)
    baseline = (np.arange(count) < right).astype(float)
    plan = baseline.copy()
    plan[generator.choice(right, changed, replace=False)] = 0
    plan[right + generator.choice(count - right, gained, replace=False)] = 1
    return baseline, plan


def naive(baseline, plan, required: float, alpha: float) -> bool | None:
    """The mistake: a normal test at every sample as if it were the only one."""
    differences = plan - baseline[: len(plan)]
    n = np.arange(1, len(plan) + 1)
    mean = np.cumsum(differences) / n
    spread = np.sqrt(np.maximum(np.cumsum(differences**2) / n - mean**2, 1e-12) * (1 - n / len(baseline)) / n)
    z = (mean - (required - baseline.mean())) / np.maximum(spread, 1e-12)
    crossed = np.flatnonzero((np.abs(z) > 1.645) & (n >= 30) & (n < len(baseline)))
    return bool(z[crossed[0]] > 0) if len(crossed) else None


@pytest.mark.parametrize("margin", [-1, 0])
def test_wrong_decisions_stay_within_the_stated_level_where_they_are_likeliest(margin):
    """One sample below and exactly on the target; the simulation tells a test that does not pay for its looks."""
    alpha, runs = 0.05, 300
    generator = np.random.default_rng(7)
    baseline, plan = at_the_limit(400, 14, 10, generator)
    required = float(plan.mean()) - margin / 400
    wrong = wrong_naive = 0
    for _ in range(runs):
        order = generator.permutation(400)
        own = the_test(baseline[order], required, alpha).decide(plan[order][:360])
        other = naive(baseline[order], plan[order], required, alpha)
        wrong += own is not None and own != (margin >= 0)
        wrong_naive += other is not None and other != (margin >= 0)
    limit = alpha * runs + 3 * math.sqrt(alpha * (1 - alpha) * runs)
    assert wrong <= limit < wrong_naive


@pytest.mark.parametrize(
    ("changed", "gained", "keeps", "enough"), [(0, 0, True, 1400), (8, 8, True, 2400), (300, 0, False, 900)]
)
def test_clear_plans_take_a_part_of_the_samples(changed, gained, keeps, enough):
    generator = np.random.default_rng(0)
    baseline, plan = at_the_limit(4000, changed, gained, generator)
    for _ in range(20):
        order = generator.permutation(4000)
        assert the_test(baseline[order], 0.99 * float(baseline.mean()), 0.001).decide(plan[order][:enough]) is keeps


def test_a_plan_near_the_target_stays_undecided():
    generator = np.random.default_rng(0)
    baseline, plan = at_the_limit(4000, 60, 24, generator)
    order = generator.permutation(4000)
    assert the_test(baseline[order], float(plan.mean()), 0.001).decide(plan[order][:3000]) is None


@given(pairs=st.lists(st.tuples(SHARES, SHARES), min_size=3, max_size=5), n=st.integers(2, 3))
def test_the_estimate_is_right_on_average_over_all_orders(pairs, n):
    baseline, plan = np.array(pairs).T
    estimates = [
        the_test(baseline[list(order)], 0.5, 0.05).estimate(plan[list(order)][:n])
        for order in permutations(range(len(plan)))
    ]
    assert np.mean([e.value for e in estimates]) == pytest.approx(plan.mean())
    assert np.mean([e.stderr**2 for e in estimates]) == pytest.approx(np.var([e.value for e in estimates]), abs=1e-12)
    assert {e.samples for e in estimates} == {n}
