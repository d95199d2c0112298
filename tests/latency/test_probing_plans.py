from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures_groups import make_chain, make_group, make_grouping
from trt_mpq.errors import SettingsError
from trt_mpq.latency.probing import probing_plans
from trt_mpq.types import LayerGroup, Precision

FP32, FP16, BF16, FP8, INT8, INT4 = map(Precision, ("fp32", "fp16", "bf16", "fp8", "int8", "int4"))


def spelled(
    groups: tuple[LayerGroup, ...], *precisions: Precision, mix_formats: bool = False, **high: Precision
) -> dict[str, str]:
    letters = {FP32: "w", FP16: "h", BF16: "b", FP8: "f", INT8: "i"}
    plans = probing_plans(replace(make_grouping(groups), **high), precisions, mix_formats=mix_formats)
    return {name: "".join(letters[p] for _, p in plan.assignments) for name, plan in plans}


def test_one_format():
    assert spelled(make_chain(5), FP16, INT8) == {
        "fp16": "hhhhh", "int8": "iiiii", "int8-even": "ihihi", "int8-odd": "hihih",
    }  # fmt: skip


def test_two_formats_are_not_mixed_unless_asked():
    apart = spelled(make_chain(3), INT8, FP8)
    assert apart == {
        "fp16": "hhh", "fp8": "fff", "fp8-even": "fhf", "fp8-odd": "hfh", "int8": "iii", "int8-even": "ihi",
        "int8-odd": "hih",
    }  # fmt: skip
    assert spelled(make_chain(3), INT8, FP8, mix_formats=True) == {**apart, "fp8-int8": "fif"}


def test_fp32_adds_one_engine():
    assert spelled(make_chain(2), FP32, FP16) == {"fp16": "hh", "fp32": "ww"}


def test_groups_that_cannot_are_no_turn():
    groups = [make_group(f"g{i}", excluded={INT8: "small"} if i == 2 else {}) for i in range(6)]
    groups.append(make_group("wide", excluded={FP16: "overflow", INT8: "overflow"}))
    plans = spelled(tuple(groups), INT8)
    assert plans == {"fp16": "hhhhhhw", "int8": "iihiiiw", "int8-even": "ihhihiw", "int8-odd": "hihhihw"}


def test_the_high_precision_is_bf16_where_the_ladder_says_so():
    assert spelled(make_chain(3), BF16, INT8, top=BF16) == {
        "bf16": "bbb", "int8": "iii", "int8-even": "ibi", "int8-odd": "bib",
    }  # fmt: skip


def test_what_fp16_cannot_hold_is_probed_in_its_refuge():
    groups = (make_group("wide", excluded={FP16: "overflow", INT8: "overflow"}), make_group("g"))
    assert spelled(groups, INT8, refuge=BF16) == {"fp16": "bh", "int8": "bi"}


def test_equal_plans_are_built_once():
    assert spelled(make_chain(1), INT8) == {"fp16": "h", "int8": "i"}
    nowhere = make_group("a", excluded={INT8: "small"})
    assert spelled((nowhere,), INT8) == {"fp16": "h"}


def test_precision_without_kernels():
    with pytest.raises(SettingsError, match="int4 cannot be measured"):
        probing_plans(make_grouping(make_chain(1)), (FP16, INT4))


@given(st.integers(0, 60), st.sets(st.sampled_from([FP32, FP16, FP8, INT8])))
def test_a_handful_that_shows_every_group_in_every_precision_with_and_without_a_boundary(size, precisions):
    groups = make_chain(size)
    plans = [plan for _, plan in probing_plans(make_grouping(groups), tuple(precisions))]
    formats = [p for p in precisions if p.quantized]
    assert len(plans) <= 1 + (FP32 in precisions) + 3 * len(formats)
    assert len(set(plans)) == len(plans)
    for precision in formats if size > 1 else ():
        for i, group in enumerate(groups):
            neighbours = [
                {plan[n.id] for n in groups[max(0, i - 1) : i + 2]} for plan in plans if plan[group.id] is precision
            ]
            assert {precision} in neighbours
            assert {precision, FP16} in neighbours
