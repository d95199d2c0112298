"""Rank agreement against brute force over pairs."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_mpq.sensitivity.agreement import agreement_of
from trt_mpq.types import Precision, Ranking

INT8 = Precision.INT8


def ranking(metric: str, scores: list[float]) -> Ranking:
    groups = tuple(f"g{i}" for i in range(len(scores)))
    return Ranking(metric, 0, groups, {INT8: dict(zip(groups, scores, strict=True))}, 10.0)


def sign(x: float, y: float) -> int:
    return (x > y) - (x < y)


def tau_b(one: list[float], other: list[float]) -> float | None:
    pairs = list(combinations(range(len(one)), 2))
    a, b = ([sign(values[i], values[j]) for i, j in pairs] for values in (one, other))
    untied = sum(x * x for x in a) * sum(x * x for x in b)
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(untied) if untied else None


scores = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0, 7.0, math.inf]), min_size=6, max_size=6)


@given(scores, scores)
def test_tau_counts_pairs(one: list[float], other: list[float]) -> None:
    found = agreement_of([ranking("noise", one), ranking("task-loss", other)])
    expected = tau_b(one, other)
    matrix = found.tau[INT8]
    for value in (matrix[0][1], matrix[1][0]):
        assert value == (None if expected is None else pytest.approx(expected, abs=1e-12))
    assert found.with_reference("noise")[INT8] == matrix[0][1]
    assert (found.metrics, found.samples_run) == (("noise", "task-loss"), (10.0, 10.0))


def test_the_order_of_the_scores_does_not_matter() -> None:
    one, other = ranking("noise", [1.0, 2.0, 3.0]), ranking("task-loss", [1.0, 2.0, 3.0])
    backwards = dict(reversed(other.scores[INT8].items()))
    assert agreement_of([one, Ranking("task-loss", 0, other.groups, {INT8: backwards})]).tau[INT8][0][1] == 1.0


def test_a_single_group_has_no_order() -> None:
    assert agreement_of([ranking("noise", [1.0]), ranking("task-loss", [1.0])]).tau[INT8] == ((None, None),) * 2
