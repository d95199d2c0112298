"""The schedule that times engines in turns."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.profile.simulated import SimulatedEngine, SimulatedGpu
from trt_mpq.engine.profile import side_by_side
from trt_mpq.engine.profile.side_by_side import _turn_orders, time_side_by_side
from trt_mpq.settings import EngineOptions
from trt_mpq.types.engine import Conditions, LayerTime, SideBySide

INPUTS = [{"input": np.zeros((8, 3), np.float32)}] * 4


@pytest.fixture(autouse=True)
def _simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "engine_timer", lambda engine, inputs: engine.timer(inputs))


def timed(
    gpu: SimulatedGpu,
    *engines: SimulatedEngine,
    options: EngineOptions | None = None,
    seed: int = 0,
    baselines: tuple[str, ...] = ("fp16",),
    unmetered: bool = False,
) -> SideBySide:
    return time_side_by_side(
        {engine.name: engine for engine in engines},
        INPUTS,
        options or EngineOptions(rounds=6, round_ms=5.0, warm_up_ms=10.0),
        batch=8,
        baselines=baselines,
        seed=seed,
        progress=lambda done, total: None,
        conditions=lambda: Conditions(sm_clock_mhz=gpu.now_ms, energy_mj=None if unmetered else 0.3 * gpu.now_ms),
    )


def test_a_profile_says_what_was_measured() -> None:
    gpu = SimulatedGpu()
    found = timed(gpu, SimulatedEngine(gpu, "plan", 0.5), SimulatedEngine(gpu, "fp16", 1.0))
    plan, fp16 = found.profiles["plan"], found.profiles["fp16"]
    assert (plan.gpu_compute.median, fp16.gpu_compute.median) == (0.5, 1.0)
    assert plan.latency.median == 0.25 + 0.5 + 0.125
    assert (plan.h2d.median, plan.d2h.median, plan.enqueue.median) == (0.25, 0.125, 0.002)
    assert (plan.iterations, fp16.iterations) == (60, 30)  # six rounds of five milliseconds
    assert (plan.throughput, fp16.throughput) == pytest.approx((2000, 1000))
    assert (plan.batch, plan.input_sets, plan.cuda_graph, plan.launch_bound) == (8, 4, True, False)
    assert (plan.warm_up_ms, plan.other_graph_median) == (10.0, 0.5)
    assert plan.layers == (LayerTime("plan conv", 0.5), LayerTime("reformat", 0.01))
    assert plan.before.sm_clock_mhz == 20.0  # after both warm-ups, not before them, when the clocks still sleep
    assert plan.after.sm_clock_mhz == 20.0 + 6 * 2 * 5


def test_energy_is_counted_for_every_engine_in_its_own_turns() -> None:
    gpu = SimulatedGpu()
    found = timed(gpu, SimulatedEngine(gpu, "plan", 0.5), SimulatedEngine(gpu, "fp16", 1.0))
    # at 300 mW: six turns of five milliseconds, of 10 and of 5 inferences each
    assert found.profiles["plan"].energy_mj == pytest.approx(0.3 * 5 / 10)
    assert found.profiles["fp16"].energy_mj == pytest.approx(0.3 * 5 / 5)
    assert timed(gpu, SimulatedEngine(gpu, "fp16", 1.0), unmetered=True).profiles["fp16"].energy_mj is None


def test_of_several_baselines_the_fastest_is_taken() -> None:
    gpu = SimulatedGpu()
    engines = (SimulatedEngine(gpu, name, ms) for name, ms in (("slow", 2.0), ("fast", 1.0), ("no baseline", 0.5)))
    found = timed(gpu, *engines, baselines=("slow", "fast"))
    assert {ratio.subject: (ratio.baseline, ratio.value) for ratio in found.ratios} == {
        "slow": ("fast", 2.0), "no baseline": ("fast", 0.5),
    }  # fmt: skip


def test_the_ratio_is_to_the_baseline_and_there_is_none_for_it() -> None:
    gpu = SimulatedGpu(noise=0.01)
    found = timed(gpu, SimulatedEngine(gpu, "fp16", 1.0), SimulatedEngine(gpu, "int8", 0.5))
    assert [ratio.subject for ratio in found.ratios] == ["int8"]
    ratio = found.ratio("int8")
    assert ratio is not None
    assert ratio.value == pytest.approx(0.5, rel=0.02)
    assert (ratio.baseline, ratio.confidence, ratio.rounds) == ("fp16", 1 - 1 / 32, 6)
    assert found.ratio("fp16") is None


def test_a_drift_cancels_in_turns_and_would_not_one_after_the_other() -> None:
    options = EngineOptions(rounds=20, round_ms=20.0, warm_up_ms=0.0)
    gpu = SimulatedGpu(drift=1.0, noise=0.005)
    in_turns = timed(gpu, SimulatedEngine(gpu, "fp16", 1.0), SimulatedEngine(gpu, "plan", 0.95), options=options)
    ratio = in_turns.ratio("plan")
    assert ratio is not None
    assert ratio.value == pytest.approx(0.95, rel=0.01)
    assert ratio.low <= 0.95 <= ratio.high < 1
    gpu = SimulatedGpu(drift=1.0, noise=0.005)
    first = SimulatedEngine(gpu, "fp16", 1.0).turn(400, 1, cuda_graph=True)
    second = SimulatedEngine(gpu, "plan", 0.95).turn(400, 1, cuda_graph=True)
    medians = [np.median([i.gpu_compute for i in turn.iterations]) for turn in (first, second)]
    assert medians[1] / medians[0] > 1.2


def test_the_order_of_the_engines_does_not_matter() -> None:
    results = []
    for names in (("a", "b", "fp16"), ("fp16", "b", "a")):
        gpu = SimulatedGpu(drift=0.5, noise=0.01)
        engines = [SimulatedEngine(gpu, name, {"a": 0.4, "b": 0.7, "fp16": 1.0}[name]) for name in names]
        results.append(timed(gpu, *engines, seed=5))
    assert results[0].profiles == results[1].profiles
    assert {r.subject: r for r in results[0].ratios} == {r.subject: r for r in results[1].ratios}
    assert list(results[1].profiles) == ["fp16", "b", "a"]


def test_the_seed_decides_the_orders() -> None:
    logs = []
    for seed in (0, 0, 1):
        gpu = SimulatedGpu()
        timed(gpu, *(SimulatedEngine(gpu, name, 1.0) for name in ("a", "b", "c", "fp16")), seed=seed)
        logs.append(gpu.log)
    assert logs[0] == logs[1] != logs[2]


@given(st.integers(1, 6), st.integers(1, 40), st.integers(0, 1000))
def test_every_round_has_every_engine_and_is_mirrored_by_the_next(engines: int, rounds: int, seed: int) -> None:
    names = tuple("abcdef"[:engines])
    orders = list(_turn_orders(names, rounds, seed))
    assert len(orders) == rounds
    assert all(sorted(order) == list(names) for order in orders)
    assert all(orders[i + 1] == orders[i][::-1] for i in range(0, rounds - 1, 2))


def test_the_orders_are_fair() -> None:
    firsts = Counter(order[0] for order in _turn_orders(("a", "b", "c"), 600, seed=3))
    assert min(firsts.values()) > 150


def test_a_small_engine_is_launch_bound() -> None:
    gpu = SimulatedGpu()
    small = SimulatedEngine(gpu, "plan", compute_ms=0.02, enqueue_ms=0.3)
    profile = timed(gpu, small, SimulatedEngine(gpu, "fp16", 1.0)).profiles["plan"]
    assert profile.launch_bound
    assert profile.gpu_compute.median == 0.02
    assert profile.other_graph_median == 0.3
    gpu = SimulatedGpu()
    small = SimulatedEngine(gpu, "plan", compute_ms=0.02, enqueue_ms=0.3)
    options = EngineOptions(rounds=2, round_ms=3.0, cuda_graph=False)
    profile = timed(gpu, small, SimulatedEngine(gpu, "fp16", 1.0), options=options).profiles["plan"]
    assert profile.launch_bound
    assert (profile.cuda_graph, profile.gpu_compute.median, profile.other_graph_median) == (False, 0.3, 0.02)


def test_one_engine_that_cannot_be_captured_keeps_all_from_graphs() -> None:
    gpu = SimulatedGpu()
    refusing = SimulatedEngine(gpu, "plan", 0.5, graph_refusal="it has a loop")
    found = timed(gpu, refusing, SimulatedEngine(gpu, "fp16", 1.0))
    assert not any(graph for _, graph in gpu.log)
    assert not found.profiles["fp16"].cuda_graph
    assert found.profiles["plan"].other_graph_median is None
    assert found.graph_refusal == "plan: it has a loop"
    gpu = SimulatedGpu()
    refusing = SimulatedEngine(gpu, "plan", 0.5, graph_refusal="it has a loop")
    unasked = EngineOptions(rounds=2, round_ms=1.0, cuda_graph=False)
    assert timed(gpu, refusing, SimulatedEngine(gpu, "fp16", 1.0), options=unasked).graph_refusal is None


@pytest.mark.parametrize(("enqueue_ms", "bound"), [(0.79, False), (0.81, True)])
def test_launch_bound_begins_where_trtexec_warns(enqueue_ms: float, bound: bool) -> None:
    gpu = SimulatedGpu()
    engine = SimulatedEngine(gpu, "fp16", compute_ms=1.0, enqueue_ms=enqueue_ms)
    assert timed(gpu, engine).profiles["fp16"].launch_bound is bound


def test_progress_counts_turns_and_every_timer_is_closed() -> None:
    gpu = SimulatedGpu()
    engines = {name: SimulatedEngine(gpu, name, 1.0) for name in ("plan", "fp16")}
    told: list[tuple[int, int]] = []
    time_side_by_side(
        engines, INPUTS, EngineOptions(rounds=3, round_ms=1.0), batch=8, baselines=["fp16"], seed=0,
        progress=lambda done, total: told.append((done, total)), conditions=Conditions,
    )  # fmt: skip
    assert told == [(done, 6) for done in range(1, 7)]
    assert all(engine.closed and engine.input_sets == 4 for engine in engines.values())


def test_slow_engines_run_once_a_turn_and_ten_times_in_the_brief_run() -> None:
    gpu = SimulatedGpu()
    found = timed(gpu, SimulatedEngine(gpu, "plan", 300.0), SimulatedEngine(gpu, "fp16", 400.0))
    assert found.profiles["plan"].iterations == 6
    assert gpu.now_ms == (300 + 400) * (1 + 6 + 10)
