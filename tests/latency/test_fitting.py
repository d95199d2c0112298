from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fixtures_groups import group_called
from tests.latency.simulated import FP8, FP16, FP32, INT8, PROVENANCE, Device, residual_network
from trt_mpq.errors import RuntimeFailure
from trt_mpq.latency.device_table import DeviceTable, MeasuredLatency
from trt_mpq.latency.fitting import fit
from trt_mpq.latency.probing import ProbedEngine
from trt_mpq.types import Grouping, Precision, PrecisionPlan
from trt_mpq.types.engine import EngineLayer

NETWORK = residual_network(8, seed=1)


def random_plans(grouping: Grouping, count: int, *precisions: Precision) -> list[PrecisionPlan]:
    """Plans of every mix, from nearly all in the first precision to nearly all in the others."""
    rng = np.random.default_rng(7)
    plans = []
    for _ in range(count):
        share = rng.uniform(0.1, 0.9)
        narrow = {g.id: precisions[rng.integers(1, len(precisions))] for g in grouping.groups if rng.random() < share}
        wide = {g.id: precisions[0] for g in grouping.groups}
        plans.append(
            PrecisionPlan.of(wide).replace({g: p for g, p in narrow.items() if group_called(g, grouping).allows(p)})
        )
    return plans


def kendall_tau(one: list[float], other: list[float]) -> float:
    i, j = np.triu_indices(len(one), 1)
    a, b = np.array(one), np.array(other)
    return float(np.mean(np.sign(a[i] - a[j]) * np.sign(b[i] - b[j])))


def tau(device: Device, table: DeviceTable, *precisions: Precision) -> float:
    plans, latency = random_plans(device.grouping, 80, *precisions), MeasuredLatency(table, device.grouping)
    return kendall_tau([device.run(plan)[2] for plan in plans], [latency.plan_ms(plan) for plan in plans])


class TestExactDevice:
    """Without noise every part of the hidden cost comes out."""

    DEVICE = Device(NETWORK)
    TABLE = DEVICE.table(FP16, INT8)

    @pytest.mark.parametrize("precision", [FP16, INT8])
    def test_groups_among_their_own(self, precision: Precision):
        plan = dict.fromkeys((group.id for group in NETWORK.groups), precision)
        for group in NETWORK.groups:
            if self.DEVICE.stored(plan, group.output) is precision:
                true = self.DEVICE.group_ms(plan, group) * self.DEVICE.profiling
                assert self.TABLE.group_ms[precision][group.id] == pytest.approx(true)

    def test_groups_at_a_boundary(self):
        for group in NETWORK.groups:
            alone = {**dict.fromkeys((g.id for g in NETWORK.groups), FP16), group.id: INT8}
            true = self.DEVICE.group_ms(alone, group) * self.DEVICE.profiling
            assert self.TABLE.wide_ms[INT8][group.id] == pytest.approx(true)
            assert FP16 not in self.TABLE.wide_ms

    def test_conversions(self):
        cost, factor = self.TABLE.conversion, self.DEVICE.profiling
        assert cost.launch_ms == pytest.approx(self.DEVICE.launch_ms * factor, rel=0.02)
        assert cost.ms_per_byte == pytest.approx(self.DEVICE.ms_per_byte * factor, rel=0.02)
        assert cost.realised == pytest.approx(1.0, abs=0.01)

    def test_the_rest_and_the_scale(self):
        pool_and_output_cast = (0.02 + self.DEVICE.launch_ms) * self.DEVICE.profiling
        assert self.TABLE.other_ms == {p: pytest.approx(pool_and_output_cast, rel=0.02) for p in (FP16, INT8)}
        assert self.TABLE.scale == pytest.approx(1 / self.DEVICE.profiling)

    def test_plans_never_built_are_predicted(self):
        latency = MeasuredLatency(self.TABLE, NETWORK)
        for plan in random_plans(NETWORK, 40, FP16, INT8):
            assert latency.plan_ms(plan) == pytest.approx(self.DEVICE.run(plan)[2], rel=0.002)

    def test_provenance(self):
        assert self.TABLE.provenance == PROVENANCE
        assert self.TABLE.builds == 4
        assert self.TABLE.counted_batches == PROVENANCE.batch
        assert self.TABLE.estimated == {}


@pytest.mark.parametrize("seed", range(3))
class TestNoisyDevice:
    def test_ranks_mixed_plans(self, seed: int):
        device = Device(NETWORK, seed, noise=0.01)
        assert tau(device, device.table(FP16, INT8), FP16, INT8) > 0.95

    def test_ranks_mixed_plans_whose_layers_are_slowed_down_by_a_constant(self, seed: int):
        device = Device(NETWORK, seed, noise=0.01, profiling=1.0, profiling_ms=0.004)
        table = device.table(FP16, INT8)
        assert (table.layer_overhead_ms, table.scale) == (pytest.approx(0.004, rel=0.3), 1.0)
        assert tau(device, table, FP16, INT8) > 0.95

    def test_ranks_plans_of_two_formats(self, seed: int):
        device = Device(NETWORK, seed, noise=0.01)
        table = device.table(FP16, FP8, INT8)
        assert table.builds == 7
        assert tau(device, table, FP16, FP8, INT8) > 0.95

    def test_groups_within_the_noise(self, seed: int):
        device = Device(NETWORK, seed, noise=0.02)
        table = device.table(FP16, INT8)
        plan = {group.id: INT8 for group in NETWORK.groups}
        ratios = [
            table.group_ms[INT8][group.id] / (device.group_ms(plan, group) * device.profiling)
            for group in NETWORK.groups
            if device.stored(plan, group.output) is INT8
        ]
        assert ratios == pytest.approx([1.0] * len(ratios), abs=0.08)

    def test_the_figure_is_about_the_real_error(self, seed: int):
        device = Device(NETWORK, seed, noise=0.01)
        table = device.table(FP16, INT8)
        latency = MeasuredLatency(table, NETWORK)
        errors = [
            abs(latency.plan_ms(plan) / device.run(plan)[2] - 1) for plan in random_plans(NETWORK, 40, FP16, INT8)
        ]
        assert table.error is not None
        assert table.error.engines == 2
        assert 0 < table.error.mean <= table.error.largest < 0.08
        assert max(errors) < 0.05


class TestPredictionError:
    def test_an_engine_that_breaks_the_rules_is_seen(self):
        probes = Device(NETWORK).probes(FP16, INT8)
        honest = fit(probes, NETWORK, PROVENANCE).error
        slow = replace(probes[-1], gpu_ms=probes[-1].gpu_ms * 1.5)
        dishonest = fit([*probes[:-1], slow], NETWORK, PROVENANCE).error
        assert honest is not None
        assert dishonest is not None
        assert honest.largest < 0.04
        assert dishonest.largest > 0.2

    def test_costs_that_do_not_add_up_are_seen(self):
        """A device that hides conversions inside the groups that read them."""
        open_device, silent = Device(NETWORK), Device(NETWORK, silent=True)
        plain, hiding = open_device.table(FP16, INT8).error, silent.table(FP16, INT8).error
        assert plain is not None
        assert hiding is not None
        assert hiding.largest > 2 * plain.largest

    def test_is_the_error_of_a_fit_that_never_saw_the_engine(self):
        device = Device(NETWORK, 4, noise=0.02)
        probes = device.probes(FP16, INT8)
        errors = []
        for left_out in probes[2:]:
            others = fit([probe for probe in probes if probe is not left_out], NETWORK, PROVENANCE)
            predicted = MeasuredLatency(others, NETWORK).plan_ms(left_out.plan)
            errors.append(abs(predicted - left_out.gpu_ms) / left_out.gpu_ms)
        found = fit(probes, NETWORK, PROVENANCE).error
        assert found is not None
        assert found.engines == 2
        assert (found.mean, found.largest) == pytest.approx((np.mean(errors), max(errors)))

    def test_none_without_mixed_engines(self):
        assert fit(Device(NETWORK).probes(FP16, INT8)[:2], NETWORK, PROVENANCE).error is None
        assert Device(NETWORK).table(FP16).error is None

    def test_none_if_the_only_engine_of_a_format_is_mixed(self):
        probes = Device(NETWORK).probes(FP16, INT8)
        assert fit([probes[0], probes[2]], NETWORK, PROVENANCE).error is None


class TestWhatEnginesHide:
    def test_uniform_engines_alone_leave_the_conversions_to_the_line(self):
        device = Device(NETWORK)
        table = fit(device.probes(FP16, INT8)[:2], NETWORK, PROVENANCE)
        assert table.conversion.realised == 1.0
        latency = MeasuredLatency(table, NETWORK)
        for precision in (FP16, INT8):
            plan = PrecisionPlan.uniform(NETWORK.groups, precision, FP16)
            assert latency.plan_ms(plan) == pytest.approx(device.run(plan)[2])

    def test_fused_groups_share_by_arithmetic_and_still_add_up(self):
        device = Device(NETWORK, fused=(("b0a", "b0b"), ("b3a", "b3b")))
        table = device.table(FP16, INT8)
        one, two = (group_called(name, NETWORK) for name in ("b0a", "b0b"))
        assert table.group_ms[FP16]["b0a"] / table.group_ms[FP16]["b0b"] == pytest.approx(one.flops / two.flops)
        plan = {group.id: FP16 for group in NETWORK.groups}
        pair = (device.group_ms(plan, one) + device.group_ms(plan, two)) * device.profiling
        assert table.group_ms[FP16]["b0a"] + table.group_ms[FP16]["b0b"] == pytest.approx(pair)
        assert tau(device, table, FP16, INT8) > 0.9

    def test_group_hidden_in_one_engine_is_known_from_the_others(self):
        open_device, device = Device(NETWORK), Device(NETWORK, hidden=("b2a",))
        open_probes, probes = open_device.probes(FP16, INT8), device.probes(FP16, INT8)
        table = fit([probes[0], *open_probes[1:]], NETWORK, PROVENANCE)
        whole = fit(open_probes, NETWORK, PROVENANCE)
        assert table.estimated == {}
        assert table.group_ms[FP16]["b2a"] == pytest.approx(whole.group_ms[FP16]["b2a"])
        assert table.other_ms[FP16] == pytest.approx(whole.other_ms[FP16], rel=0.01), "not counted twice"

    def test_group_seen_only_at_boundaries_is_known_among_its_own(self):
        open_device, device = Device(NETWORK), Device(NETWORK, hidden=("b2a",))
        probes = open_device.probes(FP16, INT8)
        table = fit([probes[0], device.probe(probes[1].plan), *probes[2:]], NETWORK, PROVENANCE)
        seen, wide = fit(probes, NETWORK, PROVENANCE).group_ms[INT8], table.wide_ms[INT8]
        stretch = np.median([wide[group] / ms for group, ms in seen.items() if group != "b2a" and ms != wide[group]])
        assert table.group_ms[INT8]["b2a"] == pytest.approx(wide["b2a"] / stretch, rel=0.02)
        assert table.estimated == {}

    def test_layer_of_several_precisions_is_better_than_nothing(self):
        """A region of one layer where a group cannot run in INT8: no engine shows INT8 by itself."""
        grouping = residual_network(4, seed=2, without_int8=("b1b",))
        device = Device(grouping)
        whole = EngineLayer("region", "Myelin", "group", tuple(group.id for group in grouping.groups), (), (), ())
        table = fit(
            [
                ProbedEngine(probe.plan, probe.gpu_ms, (whole,), {"region": sum(probe.layer_ms.values())})
                for probe in device.probes(FP16, INT8)
            ],
            grouping,
            PROVENANCE,
        )
        assert table.estimated == {}
        assert 0.3 < table.group_ms[INT8]["b0a"] / table.group_ms[FP16]["b0a"] < 0.95

    def test_group_hidden_everywhere_is_estimated_and_named(self):
        device = Device(NETWORK, hidden=("b2a",))
        table = device.table(FP16, INT8)
        assert table.estimated == {FP16: ("b2a",), INT8: ("b2a",)}
        visible = [group for group in NETWORK.groups if group.id != "b2a"]
        rate = sum(table.group_ms[FP16][g.id] for g in visible) / sum(g.flops for g in visible)
        assert table.group_ms[FP16]["b2a"] == pytest.approx(rate * group_called("b2a", NETWORK).flops)
        uniform = PrecisionPlan.uniform(NETWORK.groups, FP16, FP16)
        assert MeasuredLatency(table, NETWORK).plan_ms(uniform) == pytest.approx(device.run(uniform)[2], rel=0.02)

    def test_engine_that_hides_everything_is_divided_by_arithmetic(self):
        device = Device(NETWORK, hidden=[group.id for group in NETWORK.groups])
        table = device.table(FP16)
        assert table.estimated == {FP16: tuple(group.id for group in NETWORK.groups)}
        flops = {group.id: group.flops for group in NETWORK.groups}
        ms = table.group_ms[FP16]
        assert [ms[g] / ms["stem"] for g in flops] == pytest.approx([f / flops["stem"] for f in flops.values()])
        uniform = PrecisionPlan.uniform(NETWORK.groups, FP16, FP16)
        assert MeasuredLatency(table, NETWORK).plan_ms(uniform) == pytest.approx(device.run(uniform)[2])

    def test_no_conversion_kernel_at_all(self):
        device = Device(NETWORK, silent=True)
        probes = [
            replace(probe, layer_ms={n: ms for n, ms in probe.layer_ms.items() if n != "output to fp32"})
            for probe in device.probes(FP16, INT8)
        ]
        table = fit(probes, NETWORK, PROVENANCE)
        assert table.conversion.launch_ms == 0.0
        assert tau(device, table, FP16, INT8) > 0.75
        cost = fit(probes[:2], NETWORK, PROVENANCE).conversion
        assert cost.launch_ms == cost.ms_per_byte == 0.0

    def test_engines_of_a_single_layer_still_show_what_boundaries_cost(self):
        """As a transformer that TensorRT compiles as one region."""
        device = Device(NETWORK)
        whole = EngineLayer("region", "Myelin", "group", tuple(group.id for group in NETWORK.groups), (), (), ())
        probes = [
            ProbedEngine(probe.plan, probe.gpu_ms, (whole,), {"region": sum(probe.layer_ms.values())})
            for probe in device.probes(FP16, INT8)
        ]
        table = fit(probes, NETWORK, PROVENANCE)
        latency = MeasuredLatency(table, NETWORK)
        assert table.estimated == {}
        assert [latency.plan_ms(probe.plan) for probe in probes] == pytest.approx([p.gpu_ms for p in probes], rel=0.05)
        assert latency.plan_ms(probes[2].plan) > latency.plan_ms(probes[0].plan) * 0.9, "boundaries eat the savings"
        assert sum(table.group_ms[INT8].values()) < sum(table.group_ms[FP16].values())

    def test_half_of_the_conversions_are_fused_away(self):
        """The line over the kernels that are left is right, the plans pay for half of what they ask."""
        device = Device(NETWORK)
        probes = []
        for probe in device.probes(FP16, INT8):
            rows = [layer.name for layer in probe.layers if layer.role == "quantize"]
            kept = {name: ms for name, ms in probe.layer_ms.items() if name not in rows[1::2]}
            lost = (sum(probe.layer_ms.values()) - sum(kept.values())) / device.profiling
            probes.append(replace(probe, gpu_ms=probe.gpu_ms - lost, layer_ms=kept))
        table = fit(probes, NETWORK, PROVENANCE)
        assert table.conversion.ms_per_byte == pytest.approx(device.ms_per_byte * device.profiling, rel=0.02)
        assert 0.35 < table.conversion.realised < 0.65

    def test_conversions_of_unknown_size_cost_the_same_each(self):
        probes = [
            replace(probe, layers=tuple(replace(layer, inputs=(), outputs=()) for layer in probe.layers))
            for probe in Device(NETWORK).probes(FP16, INT8)
        ]
        table = fit(probes, NETWORK, PROVENANCE)
        assert table.conversion.ms_per_byte == 0.0
        assert table.conversion.launch_ms > Device.launch_ms

    def test_no_engine(self):
        with pytest.raises(RuntimeFailure, match="no engine could be built and timed"):
            fit([], NETWORK, PROVENANCE)


def test_groups_that_cannot_run_in_a_format_have_no_time_in_it():
    grouping = residual_network(4, seed=2, without_int8=("stem", "b1b"))
    device = Device(grouping, noise=0.01)
    table = device.table(FP16, INT8)
    assert set(table.group_ms[INT8]) == {group.id for group in grouping.groups} - {"stem", "b1b"}
    assert set(table.group_ms[FP16]) == {group.id for group in grouping.groups}
    assert tau(device, table, FP16, INT8) > 0.93


def test_counts_may_hold_for_more_than_one_sample():
    device = Device(NETWORK)
    probes = device.probes(FP16, INT8)
    quarter = fit(probes, NETWORK, PROVENANCE, counted_batches=1)
    assert quarter.counted_batches == 1
    assert quarter.conversion.ms_per_byte == fit(probes, NETWORK, PROVENANCE).conversion.ms_per_byte
    assert quarter.conversion.realised > 2, "plans ask for a quarter of the bytes that the engines move"


def numbers(table: DeviceTable) -> list[float]:
    groups = [ms for times in (table.group_ms, table.wide_ms) for p in Precision for ms in _sorted(times.get(p, {}))]
    others = [table.other_ms.get(p, 0.0) for p in Precision]
    conversion = [table.conversion.launch_ms, table.conversion.ms_per_byte * 1e6, table.conversion.realised]
    error = [table.error.mean, table.error.largest] if table.error else []
    return [*groups, *others, *conversion, table.scale, *error]


def _sorted(times: dict[str, float]) -> list[float]:
    return [times[name] for name in sorted(times)]


class TestLaws:
    SMALL = residual_network(3, seed=5)

    @given(st.randoms(use_true_random=False), st.integers(0, 5), st.booleans())
    @settings(max_examples=10, deadline=None)
    def test_order_of_engines_does_not_matter(self, random, seed, hides):
        probes = Device(self.SMALL, seed, noise=0.03, hidden=("b1a",) if hides else ()).probes(FP32, FP16, INT8)
        shuffled = random.sample(probes, len(probes))
        one, other = (fit(given, self.SMALL, PROVENANCE) for given in (probes, shuffled))
        assert numbers(one) == pytest.approx(numbers(other), rel=1e-4, abs=1e-7)
        assert one.estimated == other.estimated

    @given(st.integers(1, 3), st.integers(0, 5))
    @settings(max_examples=6, deadline=None)
    def test_equal_engines_tell_nothing_new(self, copies, seed):
        probes = Device(self.SMALL, seed, noise=0.03).probes(FP16, INT8)
        one, other = fit(probes, self.SMALL, PROVENANCE), fit(probes * copies, self.SMALL, PROVENANCE)
        assert numbers(one) == pytest.approx(numbers(other), rel=1e-4, abs=1e-7)
        assert other.builds == copies * one.builds

    @given(st.floats(0.01, 100), st.integers(0, 5))
    @settings(max_examples=6, deadline=None)
    def test_a_slower_device_is_slower_everywhere(self, factor, seed):
        probes = Device(self.SMALL, seed, noise=0.03).probes(FP16, INT8)
        slower = [
            replace(p, gpu_ms=p.gpu_ms * factor, layer_ms={n: ms * factor for n, ms in p.layer_ms.items()})
            for p in probes
        ]
        plan = random_plans(self.SMALL, 1, FP16, INT8)[0]
        one, other = (
            MeasuredLatency(fit(given, self.SMALL, PROVENANCE), self.SMALL).plan_ms(plan) for given in (probes, slower)
        )
        assert other == pytest.approx(factor * one, rel=1e-4)
