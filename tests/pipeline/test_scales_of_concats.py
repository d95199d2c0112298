"""Whether what a Concat joins has a scale of its own: decided by whether the uniform plan keeps the target without."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.calibrate.test_own_scales import apart, skip
from tests.networks import Builder
from tests.prepared import normal
from tests.runs import Recorder, start
from trt_mpq.groups.scales import OWN_SCALE_RATIO
from trt_mpq.pipeline.calibration_methods import Choice, trial_of
from trt_mpq.pipeline.model_states import states
from trt_mpq.pipeline.run import Run
from trt_mpq.types import Precision


def run(folder: Path, gain: float, target: float, **settings: object) -> Run:
    """A run on a stem that is joined with a branch `gain` times as large."""
    return run_of(skip(gain), folder, target, **settings)


def run_of(proto: onnx.ModelProto, folder: Path, target: float, **settings: object) -> Run:
    folder.mkdir(exist_ok=True)
    onnx.save(proto, folder / "net.onnx")
    np.savez(folder / "data.npz", input=normal(16, 16, 8, 8))
    files = {"model": str(folder / "net.onnx"), "calib": str(folder / "data.npz")}
    wanted = {"metric": "sqnr", "precisions": "fp16,int8", "device": "l4", "batch": 8, "calibration": "minmax"}
    return start(files, folder / "run", Recorder(), **{**wanted, "target_accuracy": target, **settings})


def decided(found: Run) -> tuple[set[str], set[Precision]]:
    """What is apart, and the precisions of the plan."""
    grouping = found.store[found.calibration_stages().scored.network].grouping
    return apart(grouping), set(found.search().chosen.plan.counts())


def warnings(found: Run) -> str:
    return "\n".join(found.report().warnings)


def test_one_scale_is_enough_where_the_target_allows_it(tmp_path: Path) -> None:
    """A branch 20 times as large costs the stem four bits, and a plan that may lose a tenth has them to lose."""
    found = run(tmp_path, 20, 0.9)
    assert decided(found) == (set(), {Precision.INT8})
    assert "cat joins stem.relu.out with values" in warnings(found)
    assert "it has their scale all the same, which costs it" in warnings(found)


def test_it_has_its_own_where_the_target_needs_it(tmp_path: Path) -> None:
    found = run(tmp_path, 20, 0.999)
    assert decided(found) == ({"stem.relu.out"}, {Precision.INT8})
    assert "it keeps a scale of its own and is requantized for the Concat: no faster plan" in warnings(found)


def test_less_than_two_bits_are_won_back_too_where_that_brings_all_down(tmp_path: Path) -> None:
    """2.6 times: by the fixed ratio they share a scale, and the uniform plan misses the target."""
    assert decided(run(tmp_path / "needed", 3, 0.9994)) == ({"stem.relu.out"}, {Precision.INT8})
    assert decided(run(tmp_path / "not", 3, 0.999)) == (set(), {Precision.INT8})


@pytest.mark.parametrize("settings", [{"search": "uniform"}, {"target_latency": 1.0}])
def test_where_nothing_is_searched_for_the_ratio_decides(settings: dict[str, object], tmp_path: Path) -> None:
    assert decided(run(tmp_path / "20", 20, 0.9, **settings))[0] == {"stem.relu.out"}
    assert decided(run(tmp_path / "3", 3, 0.9, **settings))[0] == set()


def test_so_does_it_where_no_uniform_plan_keeps_the_target(tmp_path: Path) -> None:
    calibration = run(tmp_path, 20, 0.999999).calibration_stages()
    assert calibration.states[-1].own_scales == OWN_SCALE_RATIO


def test_no_more_are_set_apart_than_have_to_be(tmp_path: Path) -> None:
    """Of two Concats the one of more different values comes first, and is enough for a target between the scores."""
    proto = two_joints(gains=(40, 6))
    asked = run_of(proto, tmp_path / "asked", 0.9)
    state = states(asked.store.settings)[-1]
    scores = {
        ratio: asked.store[
            trial_of(asked.store, replace(state, own_scales=ratio), Precision.INT8, Choice("minmax"))
        ].score
        for ratio in (inf, 15.0, 3.0)
    }
    none, one, both = scores.values()
    assert none < one < both
    for target, expected in ((none, 0), ((none + one) / 2, 1), ((one + both) / 2, 2)):
        # With a budget no search asks whether fewer would do, see `test_ties`.
        found, _ = decided(run_of(proto, tmp_path / f"{target:.9f}", target * (1 - 1e-9), max_evaluations=9))
        assert sorted(found) == ["first.relu.out", "second.relu.out"][:expected]


def two_joints(gains: tuple[float, float]) -> onnx.ModelProto:
    """Two stems of the input, each joined with a branch that is so many times as large."""
    b = Builder(0)
    results = []
    for name, gain in zip(("first", "second"), gains, strict=True):
        stem = b.relu(f"{name}.relu", b.conv(name, "input", (16, 16)))
        branch = b.node("Conv", f"{name}.branch", [stem, b.normal(f"{name}.branch.weight", (16, 16, 1, 1), gain / 4)])
        results.append(b.conv(f"{name}.fuse", b.node("Concat", f"{name}.cat", [stem, branch], axis=1), (32, 16)))
    b.node("Concat", "all", results, axis=1)
    return b.model((16, 8, 8), (32, 8, 8))
