from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures_groups import make_chain, make_group, make_grouping, make_loose
from tests.latency.simulated import FP8, FP16, INT8, PROVENANCE, Device, residual_network
from trt_mpq.errors import SettingsError
from trt_mpq.latency.device_table import ConversionCost, DeviceTable, MeasuredLatency
from trt_mpq.latency.roofline import LatencyModel
from trt_mpq.latency.target import target_from_name
from trt_mpq.types import Precision, PrecisionPlan

CHAIN = make_grouping(
    [*make_chain(3), make_group("g3", ["pool.out"])], [make_loose("pool", ["g2.out"], op_type="GlobalAveragePool")]
)
TABLE = DeviceTable(
    provenance=PROVENANCE,
    builds=4,
    counted_batches=2,
    group_ms={FP16: {"g0": 10, "g1": 20, "g2": 30, "g3": 40}, INT8: {"g0": 5, "g1": 11, "g2": 16, "g3": 21}},
    wide_ms={INT8: {"g0": 6, "g1": 12, "g2": 17, "g3": 22}},
    conversion=ConversionCost(launch_ms=1.0, ms_per_byte=0.001, realised=0.5),
    other_ms={FP16: 8.0, INT8: 4.0},
    scale=0.5,
)
LATENCY = MeasuredLatency(TABLE, CHAIN)


def plan(*precisions: Precision) -> PrecisionPlan:
    return PrecisionPlan(tuple((f"g{i}", precision) for i, precision in enumerate(precisions)))


def conversion(bits: int) -> float:
    """100 elements, twice, read and written at `bits` together."""
    return 0.5 * (1.0 + 0.001 * 100 * 2 * bits / 8)


def test_uniform_half():
    assert LATENCY.plan_ms(plan(FP16, FP16, FP16, FP16)) == pytest.approx(0.5 * (100 + conversion(32 + 16) + 8.0))
    assert LATENCY.source == "device-table"


def test_uniform_8_bit_is_wide_where_others_read():
    groups = 5 + 11 + 17 + 22  # the pool reads g2 and the network's output is g3
    conversions = conversion(32 + 8) + conversion(16 + 8)
    assert LATENCY.plan_ms(plan(INT8, INT8, INT8, INT8)) == pytest.approx(0.5 * (groups + conversions + 4.0))


def test_boundaries_of_a_mixed_plan_count():
    mixed = plan(INT8, FP16, INT8, FP16)
    assert LATENCY.group_ms(mixed) == pytest.approx(
        {
            "g0": 0.5 * (6 + conversion(32 + 8)),
            "g1": 0.5 * 20,
            "g2": 0.5 * (17 + conversion(16 + 8)),
            "g3": 0.5 * 40,
        }
    )
    assert LATENCY.plan_ms(mixed) == pytest.approx(sum(LATENCY.group_ms(mixed).values()) + 0.5 * 6.0)
    assert [r.reader for r in LATENCY.reformats(mixed)] == ["g0", "g2"]


def test_precision_that_was_not_measured():
    with pytest.raises(
        SettingsError,
        match=r"device table of NVIDIA Imaginary 1000 \(TensorRT 10\.16\.1\) does not know g1 in fp8, it was measured "
        r"in fp16, int8: run `trt-mpq measure` again",
    ):
        LATENCY.plan_ms(plan(FP16, FP8, FP16, FP16))


def test_group_that_was_not_measured_in_a_precision():
    partial = replace(TABLE, group_ms={**TABLE.group_ms, INT8: {"g0": 5}}, wide_ms={INT8: {"g0": 6}})
    latency = MeasuredLatency(partial, CHAIN)
    assert latency.plan_ms(plan(INT8, FP16, FP16, FP16)) > 0
    with pytest.raises(SettingsError, match="does not know g1 in int8"):
        latency.group_ms(plan(FP16, INT8, FP16, FP16))


def test_table_of_other_groups():
    with pytest.raises(SettingsError, match="measured for other layer groups"):
        MeasuredLatency(TABLE, make_grouping(make_chain(3)))


NETWORK = residual_network(4, seed=3)
MEASURED = MeasuredLatency(Device(NETWORK).table(FP16, FP8, INT8), NETWORK)
plans = st.tuples(*(st.sampled_from([FP16, FP8, INT8]) for _ in NETWORK.groups)).map(
    lambda chosen: PrecisionPlan(tuple((g.id, p) for g, p in zip(NETWORK.groups, chosen, strict=True)))
)


class TestLaws:
    @given(plans)
    def test_groups_and_the_rest_are_the_whole(self, plan: PrecisionPlan):
        per_group = MEASURED.group_ms(plan)
        assert tuple(per_group) == tuple(group.id for group in NETWORK.groups)
        assert all(ms > 0 for ms in per_group.values())
        assert sum(per_group.values()) < MEASURED.plan_ms(plan)

    @given(plans)
    def test_boundaries_are_those_of_the_model(self, plan: PrecisionPlan):
        assert MEASURED.reformats(plan) == LatencyModel(NETWORK, target_from_name("l4"), 1).reformats(plan)

    @given(plans)
    def test_a_group_that_leaves_its_format_pays_for_the_boundaries(self, plan: PrecisionPlan):
        """What changes is the group itself and what touches it: nothing else in the network."""
        changed = plan.replace({"b1a": FP16})
        before, after = MEASURED.group_ms(plan), MEASURED.group_ms(changed)
        touched = {"b0b", "b1a", "b1b"} | {r.reader for r in (*MEASURED.reformats(plan), *MEASURED.reformats(changed))}
        assert all(before[g] == after[g] for g in before if g not in touched)


@pytest.mark.parametrize("precision", Precision)
def test_knows_exactly_what_it_can_tell(precision: Precision):
    asked = plan(precision, FP16, FP16, FP16)
    assert LATENCY.knows(asked) == TABLE.covers(asked) == (precision in (FP16, INT8))
    if LATENCY.knows(asked):
        assert LATENCY.plan_ms(asked) > 0
    else:
        with pytest.raises(SettingsError):
            LATENCY.plan_ms(asked)


def test_says_where_it_is_from():
    assert LATENCY.device == "NVIDIA Imaginary 1000"
    assert LATENCY.identity == MeasuredLatency(replace(TABLE), CHAIN).identity
    assert LATENCY.identity != MeasuredLatency(replace(TABLE, scale=0.6), CHAIN).identity
