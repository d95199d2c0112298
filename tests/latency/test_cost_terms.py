"""Costs as terms against the latency they were derived from, on networks and plans drawn at random."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.drawn_groups import groupings
from tests.fixtures_groups import make_chain, make_grouping
from tests.latency.simulated import PROVENANCE
from trt_mpq.errors import SettingsError
from trt_mpq.latency.base import Latency
from trt_mpq.latency.cost_terms import kernel_terms
from trt_mpq.latency.device_table import ConversionCost, DeviceTable, MeasuredLatency
from trt_mpq.latency.energy import EnergyModel
from trt_mpq.latency.roofline import LatencyModel
from trt_mpq.latency.size import size_costs, weight_bytes
from trt_mpq.latency.target import target_from_name
from trt_mpq.types import Grouping, Precision, PrecisionPlan

FP32, FP16, BF16, FP8, INT8, INT4 = map(Precision, ("fp32", "fp16", "bf16", "fp8", "int8", "int4"))
KNOWN = (FP32, FP16, BF16, FP8, INT8)


def table_of(grouping: Grouping, draw: st.DrawFn) -> DeviceTable:
    def times() -> dict[str, float]:
        return {group.id: draw(st.floats(0.1, 9)) for group in grouping.groups}

    return DeviceTable(
        provenance=PROVENANCE,
        builds=4,
        counted_batches=2,
        group_ms={p: times() for p in KNOWN},
        wide_ms={p: times() for p in KNOWN if p.quantized},
        conversion=ConversionCost(launch_ms=0.5, ms_per_byte=0.001, realised=0.7),
        other_ms={p: draw(st.floats(0, 5)) for p in KNOWN},
        scale=0.9,
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[Grouping, Latency, dict[str, tuple[Precision, ...]], PrecisionPlan]:
    grouping = draw(groupings(8))
    top, refuge = draw(st.sampled_from([(FP16, BF16), (FP16, FP32), (BF16, FP32)]))
    loose = tuple(replace(op, excluded={top: "out of range"}) if draw(st.booleans()) else op for op in grouping.loose)
    grouping = replace(grouping, loose=loose, top=top, refuge=refuge)
    modelled = LatencyModel(grouping, target_from_name("h200"), 4)
    latency = modelled if draw(st.booleans()) else MeasuredLatency(table_of(grouping, draw), grouping)
    some = st.sets(st.sampled_from(KNOWN), min_size=1).map(lambda chosen: tuple(p for p in Precision if p in chosen))
    options = {group.id: draw(some) for group in grouping.groups}
    plan = PrecisionPlan.of({group: draw(st.sampled_from(own)) for group, own in options.items()})
    return grouping, latency, options, plan


@given(cases())
def test_the_terms_of_every_plan_add_up_to_its_latency(case):
    _, latency, options, plan = case
    all_wide = set(plan.counts()) == {FP32} and any(own != (FP32,) for own in options.values())
    if not all_wide:  # there the ops outside groups run in FP32, which the terms leave out
        assert kernel_terms(latency, options).of(plan) == pytest.approx(latency.plan_ms(plan), rel=1e-12)


@given(cases())
def test_the_terms_of_the_energy_add_up_to_it_too(case):
    grouping, latency, options, plan = case
    all_wide = set(plan.counts()) == {FP32} and any(own != (FP32,) for own in options.values())
    if not all_wide:
        target = target_from_name("h200")
        energy = EnergyModel(latency, LatencyModel(grouping, target, 4), target)
        assert kernel_terms(energy, options).of(plan) == pytest.approx(energy.plan_cost(plan), rel=1e-9)


@given(cases())
def test_the_terms_of_the_size_add_up_to_the_bytes(case):
    grouping, _, options, plan = case
    if set(plan.counts()) != {FP32}:
        assert 0 <= weight_bytes(plan, grouping, 1001) - size_costs(grouping, 1001, options).of(plan) < 1


def test_a_precision_the_device_has_not_is_refused():
    latency = LatencyModel(make_grouping(make_chain(2)), target_from_name("orin-agx"), 1)
    with pytest.raises(SettingsError, match="cannot compute in fp8"):
        kernel_terms(latency, {"g0": (FP16, FP8), "g1": (FP16,)})
