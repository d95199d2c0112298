"""Groups at fault by halves, against every other way to leave groups out."""

from __future__ import annotations

from collections.abc import Collection
from math import ceil, log2

from hypothesis import given
from hypothesis import strategies as st

from trt_mpq.engine.bisection import bisect, groups_at_fault
from trt_mpq.types import Comparison, OutputComparison, Precision, PrecisionPlan

GROUPS = [f"g{number}" for number in range(9)]
FP16, INT8 = Precision.FP16, Precision.INT8
causes = st.lists(st.sets(st.sampled_from(GROUPS), min_size=1, max_size=3), min_size=1, max_size=3)
"""Sets of groups that are wrong together."""


def compared(passed: bool) -> Comparison:
    return Comparison(8, (OutputComparison("y", 40.0 if passed else 3.0, 1.0, 0.1, 10.0, passed),))


@given(causes)
def test_the_rest_passes_and_no_group_can_be_given_back(causes: list[set[str]]) -> None:
    def passes(groups: Collection[str]) -> bool:
        return not any(cause <= set(groups) for cause in causes)

    found = groups_at_fault(GROUPS, passes)
    rest = set(GROUPS) - set(found)
    assert passes(rest)
    assert not any(passes(rest | {group}) for group in found)


@given(st.sampled_from(GROUPS))
def test_one_of_many_is_found_in_as_many_questions_as_it_has_halves(culprit: str) -> None:
    asked: list[Collection[str]] = []

    def passes(groups: Collection[str]) -> bool:
        asked.append(groups)
        return culprit not in groups

    assert groups_at_fault(GROUPS, passes) == [culprit]
    assert len(asked) <= 2 * ceil(log2(len(GROUPS)))


def test_a_right_engine_and_one_that_is_wrong_anyway_have_no_group_at_fault() -> None:
    plan = PrecisionPlan.of(dict.fromkeys(GROUPS, INT8))
    high = PrecisionPlan.of(dict.fromkeys(GROUPS, FP16))
    right = bisect(plan, high, lambda asked: compared(True))
    assert (right.at_fault, right.after, right.engines) == ({}, None, 1)
    wrong = bisect(plan, high, lambda asked: compared(False))
    assert (wrong.at_fault, wrong.after, wrong.engines) == ({}, None, 2)
    assert "no group is at fault" in wrong.finding


@given(causes)
def test_what_is_found_mends_the_plan(causes: list[set[str]]) -> None:
    plan = PrecisionPlan.of(dict.fromkeys(GROUPS, INT8))
    high = PrecisionPlan.of(dict.fromkeys(GROUPS, FP16))

    def compare(asked: PrecisionPlan) -> Comparison:
        lowered = {group for group, precision in asked.assignments if precision is INT8}
        return compared(not any(cause <= lowered for cause in causes))

    found = bisect(plan, high, compare)
    assert found.at_fault
    assert set(found.at_fault.values()) == {INT8}
    assert found.after == compared(True)
    assert all(group in found.finding for group in found.at_fault)
