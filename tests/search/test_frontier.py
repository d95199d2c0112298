"""The integer program against every plan there is."""

from __future__ import annotations

import os
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.drawn_groups import groupings
from tests.fixtures_groups import make_group, make_grouping
from trt_mpq.latency.cost_terms import kernel_terms
from trt_mpq.latency.roofline import LatencyModel
from trt_mpq.latency.target import target_from_name
from trt_mpq.search.costs import Choice, Costs
from trt_mpq.search.frontier import Frontier
from trt_mpq.types import Precision, PrecisionPlan

FP16, FP8, INT8 = Precision.FP16, Precision.FP8, Precision.INT8


@st.composite
def cases(draw: st.DrawFn) -> tuple[Frontier, Costs, dict[Choice, float], list[PrecisionPlan]]:
    """The frontier of a network on L4, its costs, whole-numbered harm, and all plans."""
    grouping = draw(groupings(5))
    options = {
        group.id: (FP16, *draw(st.sampled_from([(), (FP8,), (INT8,), (FP8, INT8)]))) for group in grouping.groups
    }
    costs = kernel_terms(LatencyModel(grouping, target_from_name("l4"), 4), options)
    harm = {(g, p): float(draw(st.integers(0, 9))) for g, own in options.items() for p in own}
    plans = [PrecisionPlan.of(dict(zip(options, made, strict=True))) for made in product(*options.values())]
    return Frontier(costs, grouping, harm), costs, harm, plans


def harm_of(plan: PrecisionPlan, harm: dict[Choice, float]) -> float:
    return sum(harm[choice] for choice in plan.assignments)


@settings(max_examples=40)
@given(cases(), st.integers(0, 30))
def test_the_fastest_within_a_budget_of_harm(case, budget: int):
    frontier, costs, harm, plans = case
    allowed = [plan for plan in plans if harm_of(plan, harm) <= budget]
    answer = frontier.cheapest(budget)
    found = answer.plan
    assert answer.gap < 1e-6, "few plans are searched to the end"
    if not allowed:
        assert found is None
        return
    assert found in allowed
    # The tie with harm weighs 1e-5 of all costs.
    least = min(map(costs.of, allowed))
    assert costs.of(found) <= least + 2e-5 * sum(abs(term.amount) for term in costs.terms)


@settings(max_examples=40)
@given(cases(), st.floats(0, 1), st.integers(0, 2))
def test_the_gentlest_within_a_latency(case, share: float, left_out: int):
    frontier, costs, harm, plans = case
    ordered = sorted(plans, key=costs.of)
    without, limit = ordered[:left_out], costs.of(ordered[int(share * (len(ordered) - 1))]) * (1 + 1e-6)
    allowed = [plan for plan in plans if costs.of(plan) <= limit and plan not in without]
    found = frontier.gentlest(limit, without).plan
    if not allowed:
        assert found is None
        return
    assert found in allowed
    assert harm_of(found, harm) <= min(harm_of(plan, harm) for plan in allowed) + 1e-3


def test_harm_of_a_choice_there_is_not_is_infinite():
    frontier = Frontier(Costs(1.0, ()), make_grouping([make_group("g")]), {("g", FP16): 0.0})
    assert frontier.harm(PrecisionPlan.of({"g": INT8})) == float("inf")
    assert frontier.harm(PrecisionPlan.of({"g": FP16})) == pytest.approx(0.0)


def test_what_the_solver_prints_is_no_result(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """HiGHS has lines that it prints whatever it is told; they would spoil the JSON of a command."""
    optimize = pytest.importorskip("scipy.optimize")
    solve = optimize.milp

    def talking(*question: object, **options: object) -> object:
        os.write(1, b"HighsMipSolverData")
        return solve(*question, **options)

    monkeypatch.setattr("scipy.optimize.milp", talking)
    Frontier(Costs(1.0, ()), make_grouping([make_group("g")]), {("g", FP16): 0.0}).cheapest()
    os.write(1, b"the result")
    assert capfd.readouterr().out == "the result"
