"""Modelled energy against sums by hand, and what must hold of it on every GPU that ships."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fixtures_groups import make_chain, make_grouping
from trt_mpq._data import data_folder
from trt_mpq.errors import SettingsError
from trt_mpq.latency.energy import EnergyModel
from trt_mpq.latency.roofline import LatencyModel
from trt_mpq.latency.target import target_from_name
from trt_mpq.types import Grouping, Precision, PrecisionPlan, Target

FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8
NAMES = sorted(path.stem for path in data_folder("targets").glob("*.toml"))


def modelled(grouping: Grouping, target: Target, batch: int = 4) -> EnergyModel:
    latency = LatencyModel(grouping, target, batch)
    return EnergyModel(latency, latency, target)


@pytest.mark.parametrize("name", NAMES)
def test_full_load_draws_the_board_power(name: str) -> None:
    """Idle power, the 16-bit peak and the whole bandwidth for a second, with the figures of Horowitz by hand."""
    target = target_from_name(name)
    assert target.board_power_w is not None
    assert target.idle_share is not None
    scale = modelled(make_grouping(make_chain(1)), target)._scale
    arithmetic_w = target.peak_tops[FP16] / 2 * 1.5  # 1e12 multiply-adds a second of 1.5e-12 J
    memory_w = target.bandwidth_gb_s * (1300 + 100) / 8 * 1e-3
    total = target.idle_share * target.board_power_w + scale * (arithmetic_w + memory_w)
    assert total == pytest.approx(target.board_power_w)
    assert 0.2 < scale < 2, "processes since 45 nm save, and no device is off by an order of magnitude"


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_power_of_a_plan_is_between_idle_and_board(name: str) -> None:
    target, grouping = target_from_name(name), make_grouping(make_chain(3))
    assert target.board_power_w is not None
    assert target.idle_share is not None
    energy, latency = modelled(grouping, target, 64), LatencyModel(grouping, target, 64)
    for precision in (FP32, FP16, INT8):
        plan = PrecisionPlan.of({group.id: precision for group in grouping.groups})
        watts = energy.plan_cost(plan) / latency.plan_ms(plan)
        assert target.idle_share * target.board_power_w <= watts <= 1.2 * target.board_power_w


def test_narrower_is_more_frugal_even_where_it_is_no_faster() -> None:
    target = replace(target_from_name("l4"), launch_us=1e6)  # nothing but launches takes time
    grouping = make_grouping(make_chain(3))
    latency, energy = LatencyModel(grouping, target, 4), modelled(grouping, target)
    wide, narrow = (PrecisionPlan.of({group.id: p for group in grouping.groups}) for p in (FP16, INT8))
    dynamic = replace(target, idle_share=1e-12)
    assert latency.plan_ms(narrow) >= 0.99 * latency.plan_ms(wide)
    assert modelled(grouping, dynamic).plan_cost(narrow) < 0.7 * modelled(grouping, dynamic).plan_cost(wide)
    assert energy.plan_cost(narrow) > 0


def test_a_device_whose_power_nobody_says_is_refused() -> None:
    for lacking in ({"board_power_w": None}, {"idle_share": None}):
        target = replace(target_from_name("l4"), **lacking)
        with pytest.raises(
            SettingsError, match="nothing is known of the energy of l4: add board_power_w and idle_share"
        ):
            modelled(make_grouping(make_chain(1)), target)
