"""Fewer operands of Concats keep scales of their own where that makes plans faster: networks against all there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tests.calibrate.test_own_scales import apart
from tests.networks import Builder
from tests.pipeline.test_scales_of_concats import run_of, two_joints
from tests.runs import stages_at_work
from trt_mpq.calibrate.own_scales import smaller_operands
from trt_mpq.calibrate.ranges import share_scales
from trt_mpq.emit import Network
from trt_mpq.latency.roofline import LatencyModel
from trt_mpq.latency.target import target_from_name
from trt_mpq.pipeline import run as pipeline_run
from trt_mpq.pipeline.calibration import CalibrationStages
from trt_mpq.pipeline.networks import candidate_ranges_of
from trt_mpq.pipeline.run import Run
from trt_mpq.pipeline.scoring import SCORER
from trt_mpq.types import Grouping, Precision, PrecisionPlan

FP16, INT8 = Precision.FP16, Precision.INT8
PLAIN = {"bias_correction": False, "refine_plan": False}

Values = NDArray[np.float32]


def share(decibels: float) -> float:
    """The score of so many decibels."""
    return float(1 - 10 ** (-decibels / 10))


def network_of(found: Run) -> Network:
    return found.store[found.calibration_stages().scored.network]


def scales_searched(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "run").glob("search-in-scales-*.json"))


# A network of small kernels, in which one that requantizes costs as much as 8 % of all.


def with_ties(network: Network, chosen: set[tuple[str, str]], found: Run) -> Network:
    """The network with just the `chosen` operands of Concats in scales of their own."""
    ties = tuple(
        replace(tie, apart=tuple(name for name in tie.operands if (tie.node, name) in chosen))
        for tie in network.grouping.ties
    )
    grouping = replace(network.grouping, ties=ties)
    (observed,) = found.store[candidate_ranges_of(found.calibration_stages().states[-1])]
    return replace(network, grouping=grouping, ranges=share_scales(observed, grouping))


def fastest_of_all(found: Run, required: float) -> float:
    """The latency, in ms, of the fastest plan in any scales that scores what is required: all are tried."""
    network, scorer = network_of(found), found.store[SCORER]
    candidates = [(tie.node, name) for tie, name, _ in smaller_operands(network.grouping, network.ranges)]
    tried: list[tuple[float, Network, PrecisionPlan]] = []
    for taken in product((False, True), repeat=len(candidates)):
        tied = with_ties(network, {one for one, own in zip(candidates, taken, strict=True) if own}, found)
        latency = LatencyModel(tied.grouping, target_from_name("l4"), 8)
        plans = (plan_of(tied.grouping, made) for made in product((FP16, INT8), repeat=len(tied.grouping.groups)))
        tried += [(latency.plan_ms(plan), tied, plan) for plan in plans]
    return next(
        ms
        for ms, tied, plan in sorted(tried, key=lambda one: one[0])
        if scorer.score(tied.emitter().reference(plan)).value >= required
    )


def plan_of(grouping: Grouping, made: tuple[Precision, ...]) -> PrecisionPlan:
    return PrecisionPlan.of({group.id: precision for group, precision in zip(grouping.groups, made, strict=True)})


@pytest.fixture(scope="module")
def between(tmp_path_factory: pytest.TempPathFactory) -> float:
    """A score that only the fastest plan with both stems in scales of their own has."""
    found = run_of(two_joints((40, 6)), tmp_path_factory.mktemp("asked"), 0.9, **PLAIN)
    network, scorer = network_of(found), found.store[SCORER]
    names = [(tie.node, name) for tie, name, _ in smaller_operands(network.grouping, network.ranges)]
    scores = [
        scorer.score(with_ties(network, set(own), found).emitter().reference(network.grouping.uniform(INT8))).value
        for own in (names, names[:1], names[1:], [])
    ]
    assert scores[0] == max(scores)
    return (scores[0] + sorted(scores)[-2]) / 2


def test_a_group_in_high_precision_takes_the_place_of_a_requantization_that_costs_more(
    between: float, tmp_path: Path
) -> None:
    """Where only both in scales of their own let the fastest plan pass, a plan with one of them tied is faster."""
    found = run_of(two_joints((40, 6)), tmp_path, between, **PLAIN)
    chosen = found.search().chosen
    assert apart(network_of(found).grouping) == {"first.relu.out"}
    assert chosen.plan.counts() == {INT8: 5, FP16: 1}
    assert chosen.latency_ms == pytest.approx(fastest_of_all(found, between))
    assert chosen.latency_ms < 0.94 * LatencyModel(
        with_ties(network_of(found), both(found), found).grouping, target_from_name("l4"), 8
    ).plan_ms(network_of(found).grouping.uniform(INT8)), "than as fast as it was with both apart"


def both(found: Run) -> set[tuple[str, str]]:
    network = network_of(found)
    return {(tie.node, name) for tie, name, _ in smaller_operands(network.grouping, network.ranges)}


@pytest.mark.parametrize("decibels", [33.0, 35.5])
def test_where_plans_are_mixed_what_they_do_not_need_is_tied_again(decibels: float, tmp_path: Path) -> None:
    found = run_of(two_joints((40, 6)), tmp_path, share(decibels), **PLAIN)
    chosen = found.search().chosen
    assert chosen.latency_ms == pytest.approx(fastest_of_all(found, share(decibels)))
    reasons = [text for text in found.report().warnings if " joins " in text]
    assert len(reasons) == 2
    assert all(
        "costs no kernel in this plan" in text or "the plan keeps the target with it" in text for text in reasons
    )


def test_it_goes_on_where_it_stopped_and_ends_the_same(between: float, tmp_path: Path, monkeypatch) -> None:
    first = run_of(two_joints((40, 6)), tmp_path, between, **PLAIN)
    chosen = first.search()
    first.release()
    with monkeypatch.context() as patched:
        worked = stages_at_work(patched)
        again = run_of(two_joints((40, 6)), tmp_path, between, **PLAIN)
        assert again.search() == chosen
        assert worked == set()
    again.release()
    for file in ("search.json", scales_searched(tmp_path)[0]):
        (tmp_path / "run" / file).unlink()
    assert run_of(two_joints((40, 6)), tmp_path, between, **PLAIN).search() == chosen


def test_workers_change_nothing(tmp_path: Path) -> None:
    """Where plans are mixed, so that groups are ranked by them."""
    alone, shared = (
        run_of(two_joints((40, 6)), tmp_path / str(workers), share(35.5), workers=workers, **PLAIN)
        for workers in (1, 2)
    )
    assert shared.search() == alone.search()
    assert apart(network_of(shared).grouping) == apart(network_of(alone).grouping)
    assert scales_searched(tmp_path / "2") == scales_searched(tmp_path / "1") != []


def test_no_plan_is_tried_for_it_where_nothing_is_apart_or_a_budget_is_given(between: float, tmp_path: Path) -> None:
    run_of(two_joints((40, 6)), tmp_path / "tied", 0.2).search()
    assert scales_searched(tmp_path / "tied") == []
    found = run_of(two_joints((40, 6)), tmp_path / "budget", between, max_evaluations=9, **PLAIN)
    assert len(found.search().path) == 2
    assert scales_searched(tmp_path / "budget") == []


# The neck of a detector: two branches go up, two down again, each joined with what the backbone or the way up left.


def neck() -> onnx.ModelProto:
    b = Builder(3)

    def block(name: str, x: str, channels: tuple[int, int], gain: float = 1.0, **options: int) -> str:
        y = b.relu(f"{name}.relu", b.conv(name, x, channels, **options))
        for values in b.initializers:
            if values.name in (f"{name}.weight", f"{name}.bias"):
                values.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(values) * np.float32(gain), values.name))
        return y

    def up(name: str, x: str) -> str:
        scales, y = b.constant(f"{name}.scales", np.float32([1, 1, 2, 2])), f"{name}.out"
        modes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        b.nodes.append(helper.make_node("Resize", [x, "", scales], [y], name=name, **modes))
        return y

    p3 = block("p3", "input", (16, 16))
    p4 = block("p4", p3, (16, 32), stride=2)
    p5 = block("p5", p4, (32, 32), stride=2)
    n4 = block("n4", b.node("Concat", "cat4", [up("up5", block("l5", p5, (32, 32), gain=10)), p4], axis=1), (64, 32))
    n3 = block("n3", b.node("Concat", "cat3", [up("up4", block("l4", n4, (32, 16), gain=5)), p3], axis=1), (32, 16))
    down = block("d3", n3, (16, 16), stride=2)
    m4 = block("m4", b.node("Concat", "cat4b", [down, n4], axis=1), (48, 32))
    m5 = block("m5", b.node("Concat", "cat5b", [block("d4", m4, (32, 32), stride=2), p5], axis=1), (64, 32))
    b.conv("head", m5, (32, 16), kernel=1)
    return b.model((16, 16, 16), (16, 4, 4))


def in_fixed_scales(monkeypatch: pytest.MonkeyPatch, ratio: float) -> None:
    """Runs have scales of their own from `ratio` on, and nothing is chosen."""

    def fixed(store: object, calibration: CalibrationStages, ranking: object) -> CalibrationStages:
        return calibration.in_scales(ratio)

    monkeypatch.setattr(pipeline_run, "choose_ties", fixed)


@pytest.mark.parametrize("decibels", [22.0, 27.0])
def test_a_neck_is_as_fast_as_in_any_other_scales(decibels: float, tmp_path: Path, monkeypatch) -> None:
    wanted = {"target": share(decibels), "sensitivity_samples": 4, **PLAIN}
    found = run_of_images(neck(), tmp_path / "chosen", **wanted)
    chosen, network = found.search().chosen, network_of(found)
    ratios = sorted({times for _, _, times in smaller_operands(network.grouping, network.ranges)})
    assert len(ratios) >= 3, "Concats that have a choice"
    others = []
    for number, ratio in enumerate([1.0, ratios[1], ratios[-1]]):
        with monkeypatch.context() as patched:
            in_fixed_scales(patched, ratio * 1.0001)
            other = run_of_images(neck(), tmp_path / str(number), **wanted)
            others.append(other.search().chosen.latency_ms)
    assert chosen.latency_ms <= 1.01 * min(others)


def run_of_images(proto: onnx.ModelProto, folder: Path, *, target: float, **settings: object) -> Run:
    """As `run_of`, on larger images."""
    folder.mkdir()
    np.savez(folder / "images.npz", input=np.random.default_rng(1).standard_normal((8, 16, 16, 16)).astype(np.float32))
    return run_of(proto, folder, target, calib=str(folder / "images.npz"), **settings)


# A U-Net of one step, its quantizers computed in numpy.


def unet() -> onnx.ModelProto:
    """The skip connection is joined with a branch about ten times as large, made from it."""
    b = Builder(5)
    skip = b.relu("stem.relu", b.conv("stem", "input", (16, 16)))
    halved = b.node("MaxPool", "halve", [skip], kernel_shape=[2, 2], strides=[2, 2])
    low = b.relu("low.relu", b.conv("low", halved, (16, 32)))
    branch = b.conv_transpose("up", low, (32, 16))
    (weight,) = (values for values in b.initializers if values.name == "up.weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(10), weight.name))
    b.conv("fuse", b.node("Concat", "cat", [branch, skip], axis=1), (32, 16))
    return b.model((16, 8, 8), (16, 8, 8))


class InNumpy:
    """What `unet` gives, as it is or in INT8 with the skip connection in its own scale or in that of all."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self._weights = {one.name: numpy_helper.to_array(one) for one in unet().graph.initializer}
        self._scales: dict[str, float] = {}
        self._tensors: dict[str, Values] = {}
        self.expected = self._output(quantized=False)
        self._scales = {name: amax / 127 for name, amax in self.magnitudes.items()}

    @property
    def magnitudes(self) -> Mapping[str, float]:
        return {name: float(np.abs(tensor).max()) for name, tensor in self._tensors.items()}

    def decibels(self, *, tied: bool) -> float:
        """Signal to noise of the output in INT8, the mean share over samples."""
        scales = dict(self._scales)
        if tied:
            self._scales["low"] = self._scales["fuse"] = max(scales["low"], scales["fuse"])
        noise = np.square(self._output(quantized=True) - self.expected).sum(axis=(1, 2, 3))
        self._scales = scales
        return float(-10 * np.log10((noise / np.square(self.expected).sum(axis=(1, 2, 3))).mean()))

    def _output(self, *, quantized: bool) -> Values:
        skip = np.maximum(self._conv("stem", self._values, quantized), 0)
        halved = skip.reshape(*skip.shape[:2], 4, 2, 4, 2).max(axis=(3, 5))
        low = np.maximum(self._conv("low", halved, quantized), 0)
        return self._conv("fuse", np.concatenate([self._up(low, quantized), skip], axis=1), quantized)

    def _conv(self, name: str, x: Values, quantized: bool) -> Values:
        x, weight = self._operands(name, x, 0, quantized)
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        return np.einsum("nchwij,ocij->nohw", windows, weight) + self._weights[f"{name}.bias"][:, None, None]

    def _up(self, x: Values, quantized: bool) -> Values:
        x, weight = self._operands("up", x, 1, quantized)
        blocks = np.einsum("nchw,coij->nohiwj", x, weight)
        n, o, h, i, w, j = blocks.shape
        return blocks.reshape(n, o, h * i, w * j) + self._weights["up.bias"][:, None, None]

    def _operands(self, name: str, x: Values, axis: int, quantized: bool) -> tuple[Values, Values]:
        weight = self._weights[f"{name}.weight"]
        self._tensors.setdefault(name, x)
        if not quantized:
            return x, weight
        others = tuple(one for one in range(4) if one != axis)
        return rounded(x, np.float32(self._scales[name])), rounded(
            weight, np.abs(weight).max(axis=others, keepdims=True) / 127
        )


def rounded(values: Values, scale: Values | np.float32) -> Values:
    """As INT8 codes of a scale that is kept in FP16."""
    step = np.float16(scale).astype(np.float32)
    return np.clip(np.rint(values / step), -128, 127) * step


def test_a_unet_has_back_what_one_scale_would_cost_it(tmp_path: Path) -> None:
    """A target between: plans in one scale are slower, and what the plan scores is what numpy says."""
    values = np.random.default_rng(4).standard_normal((16, 16, 8, 8)).astype(np.float32)
    (tmp_path / "unet").mkdir()
    np.savez(tmp_path / "unet" / "values.npz", input=values)
    by_hand = InNumpy(values)
    assert by_hand.magnitudes["fuse"] > 5 * by_hand.magnitudes["low"]
    tied, own = by_hand.decibels(tied=True), by_hand.decibels(tied=False)
    assert own > tied + 6
    given = {"calib": str(tmp_path / "unet" / "values.npz"), **PLAIN}
    found = run_of(unet(), tmp_path / "unet", share((tied + own) / 2), **given)
    chosen = found.search().chosen
    assert chosen.plan.counts() == {INT8: 4}
    assert apart(network_of(found).grouping) == {"stem.relu.out"}
    assert -10 * np.log10(1 - chosen.score.value) == pytest.approx(own, abs=0.05)
    (tmp_path / "loose").mkdir()
    loose = run_of(unet(), tmp_path / "loose", share(tied - 0.5), **given)
    assert apart(network_of(loose).grouping) == set()
    assert -10 * np.log10(1 - loose.search().chosen.score.value) == pytest.approx(tied, abs=0.05)
