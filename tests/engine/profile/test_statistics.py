"""Distributions of times and the ratio of two engines."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_mpq.engine.profile.statistics import _percentile, ratio, spread

times = st.lists(st.floats(0.001, 1000), min_size=1, max_size=200)


def test_a_spread_by_hand() -> None:
    found = spread([4.0, 1.0, 3.0, 2.0])
    assert (found.minimum, found.mean, found.median, found.maximum) == (1.0, 2.5, 2.5, 4.0)


@pytest.mark.parametrize(
    ("count", "p", "expected"),
    [
        (10, 90, 9),  # of 1..10 the largest is left out
        (10, 99, 10),
        (10, 95, 10),
        (200, 99, 199),  # in single precision 0.01 * 200 is a little below 2, so only one is left out
        (100, 99, 100),  # and here none, as trtexec has it
        (1000, 90, 900),
        (1, 90, 1),
        (5, 0, 1),
        (5, 100, 5),
    ],
)
def test_percentiles_are_those_of_trtexec(count: int, p: float, expected: float) -> None:
    assert _percentile(np.arange(1.0, count + 1), p) == expected


@given(times, st.integers(0, 100))
def test_a_percentile_is_observed_and_leaves_out_the_right_share(values: list[float], p: int) -> None:
    found = _percentile(np.sort(np.array(values)), p)
    assert found in values
    share_above = Fraction(sum(value > found for value in values), len(values))
    assert share_above <= Fraction(100 - p, 100) + Fraction(1, 1000)


@given(times, st.randoms(use_true_random=False))
def test_the_order_of_times_does_not_matter(values: list[float], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert spread(shuffled) == spread(values)


@given(times)
def test_a_spread_is_in_order(values: list[float]) -> None:
    found = spread(values)
    steps = (found.minimum, found.median, found.p90, found.p95, found.p99, found.maximum)
    assert list(steps[2:]) == sorted(steps[2:])
    assert found.minimum == min(values)
    assert found.maximum == max(values)
    assert found.minimum <= found.median <= found.maximum
    assert found.minimum * (1 - 1e-12) <= found.mean <= found.maximum * (1 + 1e-12)


@given(times, st.integers(-8, 8))
def test_a_spread_scales_with_its_unit(values: list[float], exponent: int) -> None:
    factor = 2.0**exponent  # exact in floating point
    one, other = spread(values), spread([factor * value for value in values])
    assert (other.median, other.p90, other.p99) == (factor * one.median, factor * one.p90, factor * one.p99)
    assert other.mean == pytest.approx(factor * one.mean, rel=1e-12)


def test_a_constant_ratio_has_no_width() -> None:
    found = ratio("a", "b", [1.0, 2.0, 4.0], [2.0, 4.0, 8.0], seed=0)
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)
    assert (found.subject, found.baseline, found.rounds, found.confidence) == ("a", "b", 3, 0.75)


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=2, max_size=30), st.integers(0, 99))
def test_an_interval_lies_among_the_rounds_around_the_value(rounds: list[tuple[float, float]], seed: int) -> None:
    found = ratio("a", "b", [a for a, _ in rounds], [b for _, b in rounds], seed)
    ratios = [a / b for a, b in rounds]
    assert min(ratios) <= found.low <= found.value <= found.high <= max(ratios)


@given(
    st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=2, max_size=30),
    st.integers(0, 99),
    st.integers(-4, 4),
)
def test_a_ratio_scales_with_the_subject(rounds: list[tuple[float, float]], seed: int, exponent: int) -> None:
    subject, baseline = [a for a, _ in rounds], [b for _, b in rounds]
    factor = 2.0**exponent
    one = ratio("a", "b", subject, baseline, seed)
    other = ratio("a", "b", [factor * value for value in subject], baseline, seed)
    assert (other.value, other.low, other.high) == pytest.approx(
        (factor * one.value, factor * one.low, factor * one.high)
    )


def test_the_interval_covers_the_truth_although_clocks_drift() -> None:
    """Both engines slow down alike by half; the ratio is still 0.9, and the interval misses it rarely."""
    generator = np.random.default_rng(20)
    trials, missed, width = 150, 0, 0.0
    for trial in range(trials):
        drift = np.linspace(1, 1.5, 30)
        baseline = drift * generator.normal(1, 0.01, 30)
        subject = 0.9 * drift * generator.normal(1, 0.01, 30)
        found = ratio("a", "b", list(subject), list(baseline), seed=trial)
        missed += not found.low <= 0.9 <= found.high
        width += (found.high - found.low) / trials
    assert missed <= 0.03 * trials
    assert width < 0.03  # and not because it is wide: a drift of 50 % that did not cancel would show


def test_a_few_disturbed_rounds_do_not_widen_the_interval() -> None:
    generator = np.random.default_rng(2)
    baseline, subject = list(generator.normal(1, 0.01, 30)), list(generator.normal(0.9, 0.01, 30))
    subject[3] *= 20
    baseline[17] *= 20
    found = ratio("a", "b", subject, baseline, seed=0)
    assert 0.88 < found.low <= found.value <= found.high < 0.92


def test_more_confidence_is_wider_and_the_seed_decides_everything() -> None:
    generator = np.random.default_rng(1)
    subject, baseline = list(generator.normal(1, 0.1, 20)), list(generator.normal(1, 0.1, 20))
    narrow, wide = (ratio("a", "b", subject, baseline, 3, confidence) for confidence in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high
    assert ratio("a", "b", subject, baseline, 3) == ratio("a", "b", subject, baseline, 3)


@pytest.mark.parametrize(("rounds", "confidence"), [(2, 0.5), (4, 0.875), (7, 0.984375), (8, 0.99), (30, 0.99)])
def test_few_rounds_do_not_claim_the_confidence_they_cannot_give(rounds: int, confidence: float) -> None:
    # All n values lie on one side of the true median with probability 2 * 2^-n.
    found = ratio("a", "b", list(np.linspace(1, 2, rounds)), [1.0] * rounds, seed=0)
    assert found.confidence == confidence
