"""A skip connection joined with a branch of another magnitude: whether it has a scale of its own, and what it saves."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.networks import Builder
from tests.prepared import RUNTIME, Prepared, normal, prepare
from trt_mpq.calibrate.own_scales import with_own_scales
from trt_mpq.calibrate.ranges import calibrate, share_scales
from trt_mpq.emit import Emitter
from trt_mpq.groups.scales import OWN_SCALE_RATIO
from trt_mpq.latency.roofline import LatencyModel
from trt_mpq.latency.target import target_from_name
from trt_mpq.types import Grouping, Precision, Ranges

FP8, INT8 = Precision.FP8, Precision.INT8


def skip(gain: float, *, branch_of_skip: bool = True) -> onnx.ModelProto:
    """`cat` joins the stem with a convolution, of the stem or of the input, `gain` times as large."""
    b = Builder(0)
    stem = b.relu("stem.relu", b.conv("stem", "input", (16, 16)))
    large = b.constant("branch.weight", b.random.standard_normal((16, 16, 1, 1)).astype(np.float32) / 4 * gain)
    branch = b.node("Conv", "branch", [stem if branch_of_skip else "input", large])
    joined = b.node("Concat", "cat", [stem, branch], axis=1)
    b.conv("fuse", joined, (32, 16))
    return b.model((16, 8, 8), (16, 8, 8))


def calibrated(prepared: Prepared, formats: tuple[Precision, ...] = (INT8,)) -> tuple[Grouping, Ranges, np.ndarray]:
    values = normal(8, 16, 8, 8)
    samples = prepared.samples(values)
    (ranges,) = calibrate(
        prepared.graph, prepared.grouping, samples, RUNTIME, methods=("minmax",), formats=formats, batch=8
    )
    return with_own_scales(prepared.grouping, ranges, OWN_SCALE_RATIO), ranges, values


def apart(grouping: Grouping) -> set[str]:
    return {tensor for tie in grouping.ties for tensor in tie.apart}


@pytest.mark.parametrize(("gain", "own"), [(1, False), (2, False), (20, True), (100, True)])
def test_only_what_is_much_smaller_has_a_scale_of_its_own(gain: float, own: bool) -> None:
    grouping, ranges, _ = calibrated(prepare(skip(gain)))
    assert apart(grouping) == ({"stem.relu.out"} if own else set())
    small, large = (ranges.tensors[name].magnitude for name in ("stem.relu.out", "branch.out"))
    assert (large > 4 * small) is own
    shared = share_scales(ranges, grouping).tensors
    assert shared["stem.relu.out"].amax[INT8] == pytest.approx(small if own else max(small, large))
    assert shared["cat.out"].amax[INT8] == pytest.approx(max(small, large))


def test_formats_whose_steps_grow_with_the_value_need_none() -> None:
    assert apart(calibrated(prepare(skip(20)), (FP8,))[0]) == set()


def test_what_nobody_quantizes_but_the_concat_s_reader_needs_none() -> None:
    assert apart(calibrated(prepare(skip(20, branch_of_skip=False)))[0]) == set()


def test_it_wins_back_the_resolution_and_costs_one_conversion() -> None:
    """The noise of the branch falls by the square of the ratio; the latency model counts the kernel, and only that."""
    prepared = prepare(skip(20))
    own, ranges, values = calibrated(prepared)
    expected = RUNTIME.load(prepared.graph).run({"input": values})["output"]
    noise, reformats = {}, {}
    for name, grouping in (("own", own), ("one", prepared.grouping)):
        plan = grouping.uniform(INT8)
        emitter = Emitter(prepared.graph, grouping, share_scales(ranges, grouping))
        got = RUNTIME.load(emitter.reference(plan)).run({"input": values})["output"]
        noise[name] = np.square(got - expected).mean()
        reformats[name] = LatencyModel(grouping, target_from_name("l4"), 8).reformats(plan)
    assert noise["own"] < noise["one"] / 10
    (requantized,) = set(reformats["own"]) - set(reformats["one"])
    assert (requantized.tensor, requantized.stored, requantized.wanted) == ("stem.relu.out", INT8, INT8)
    assert set(reformats["one"]) < set(reformats["own"])
