"""Ranges against brute force over all values of a tensor, and against every way to cut the data into batches."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fixtures_groups import group_called
from tests.networks import NETWORKS, Builder, depthwise_cnn, inception, mlp, residual_cnn, shared_maxpool
from tests.prepared import QUANTIZED, RUNTIME, Prepared, normal, prepare
from tests.sensitivity.examples import fix_batch
from trt_mpq.calibrate.histogram import METHODS, Histogram
from trt_mpq.calibrate.ranges import by_format, calibrate, share_scales
from trt_mpq.calibrate.restrictions import restrict_to_ranges
from trt_mpq.dataset import Samples
from trt_mpq.errors import CalibrationError
from trt_mpq.runtime.base import Array, Arrays, Runtime
from trt_mpq.types import Precision, Ranges
from trt_mpq.types.observer import Progress

FP32, FP16, BF16, FP8, INT8, INT4 = map(Precision, ("fp32", "fp16", "bf16", "fp8", "int8", "int4"))
EVERY = tuple(precision for precision in Precision if precision.quantized)


@cache
def network(name: str) -> Prepared:
    return prepare(NETWORKS[name]())


def shape_of(prepared: Prepared) -> tuple[int, ...]:
    return tuple(size for size in prepared.model.inputs[0].shape[1:] if isinstance(size, int))


def ranges_by(
    prepared: Prepared,
    samples: Samples,
    methods: Sequence[str],
    batch: int,
    runtime: Runtime = RUNTIME,
    formats: Sequence[Precision] = QUANTIZED,
    progress: Progress | None = None,
) -> tuple[Ranges, ...]:
    return calibrate(
        prepared.graph, prepared.grouping, samples, runtime, methods=methods, formats=formats, batch=batch,
        progress=progress,
    )  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_extremes_are_those_of_every_value(name):
    prepared = network(name)
    values = normal(13, *shape_of(prepared))
    ranges = prepared.calibrated(prepared.samples(values))
    names = [
        v.name for v in (*prepared.graph.graph.inputs, *(o for node in prepared.graph.graph for o in node.outputs))
    ]
    assert set(ranges.tensors) == set(names)
    for tensor, expected in prepared.tensors(values, *names).items():
        observed = ranges.tensors[tensor]
        assert observed.minimum == pytest.approx(float(expected.min()), rel=1e-5, abs=1e-6), tensor
        assert observed.maximum == pytest.approx(float(expected.max()), rel=1e-5, abs=1e-6), tensor
    assert ranges.samples == 13
    assert ranges.methods == dict.fromkeys(QUANTIZED, "minmax")


@pytest.mark.parametrize("method", METHODS)
def test_each_method_sees_exactly_the_values_of_the_tensor(method):
    """The amax of a stage-by-stage run equals that of one histogram filled with every value at once."""
    prepared = network("residual_cnn")
    values = normal(13, 3, 16, 16)
    ranges = prepared.calibrated(prepared.samples(values), method)
    quantized = dict.fromkeys(site.tensor for group in prepared.grouping.groups for site in group.inputs)
    for tensor, whole in prepared.tensors(values, *quantized).items():
        histogram = Histogram.empty(float(np.abs(whole).max()))
        histogram.add(whole)
        bins = histogram.magnitude / len(histogram.counts)
        for precision in QUANTIZED:
            expected = METHODS[method].amax(histogram, precision)
            assert ranges.tensors[tensor].amax[precision] == pytest.approx(expected, abs=1.01 * bins), (
                tensor,
                precision,
            )


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None, max_examples=8)
@given(batch=st.integers(1, 40))
def test_the_batch_size_does_not_matter(method, batch):
    prepared = network("inception")
    samples = prepared.samples(normal(17, 3, 12, 12))
    reference = _reference_ranges(method)
    for tensor, observed in prepared.calibrated(samples, method, batch).tensors.items():
        expected = reference[tensor]
        assert (observed.minimum, observed.maximum) == pytest.approx((expected.minimum, expected.maximum), rel=1e-5)
        for precision in observed.amax:
            assert observed.amax[precision] == pytest.approx(expected.amax[precision], rel=0.02)


@cache
def _reference_ranges(method: str):
    prepared = network("inception")
    return prepared.calibrated(prepared.samples(normal(17, 3, 12, 12)), method, 17).tensors


class Affine:
    """A runtime whose outputs are exact for any batch: every tensor asked for is the input, scaled."""

    name, ways = "affine", 1

    def __init__(self, transform=lambda name, x: x) -> None:
        self._transform = transform

    def load(self, graph, outputs=(), ways=1):
        return AffineSession(tuple(value.name for value in graph.graph.outputs), self._transform)


class AffineSession:
    def __init__(self, output_names, transform) -> None:
        self.output_names = output_names
        self._transform = transform

    def run(self, feeds: Mapping[str, Array]) -> Arrays:
        return {name: self._output(name, next(iter(feeds.values()))) for name in self.output_names}

    def _output(self, name: str, x: Array) -> Array:
        tensor, _, reduction = name.rpartition("/")
        reduce = {"min": np.min, "max": np.max, "mean": np.mean}.get(reduction)
        return np.asarray(self._transform(name, x) if reduce is None else reduce(self._transform(tensor, x)))


@given(st.integers(1, 30), st.sampled_from(sorted(METHODS)), st.integers(1, 30))
@settings(deadline=None, max_examples=12)
def test_equal_runtime_outputs_give_equal_ranges_whatever_the_batch(count, method, batch):
    prepared = network("mlp")
    samples = prepared.samples(normal(count, 32))
    assert ranges_by(prepared, samples, [method], batch, Affine()) == ranges_by(
        prepared, samples, [method], count, Affine()
    )


@pytest.mark.parametrize(
    ("layout", "transform"),
    [
        ("batch on axis 1", lambda name, x: np.ascontiguousarray(x.T)),
        ("rows of several per sample", lambda name, x: x.reshape(-1, 8)),
        ("no axis at all", lambda name, x: np.float32(x[0, 0] * 0 + 1)),
    ],
)
@pytest.mark.parametrize("method", ["percentile", "mse", "entropy"])
def test_tensors_need_not_have_the_batch_on_axis_0(layout, transform, method):
    prepared = network("mlp")
    samples = prepared.samples(normal(10, 32))
    by_four, at_once = (ranges_by(prepared, samples, [method], batch, Affine(transform)) for batch in (4, 10))
    assert list(map(without_bins, by_four)) == list(map(without_bins, at_once))


@pytest.mark.parametrize("method", METHODS)
def test_a_fixed_batch_dimension_is_filled_and_the_filling_not_counted(method):
    free = network("residual_cnn")
    fixed = prepare(fix_batch(residual_cnn(), 4))
    values = normal(10, 3, 16, 16)
    expected = free.calibrated(free.samples(values), method)
    found = fixed.calibrated(fixed.samples(values), method)
    for tensor, observed in found.tensors.items():
        assert observed.magnitude == pytest.approx(expected.tensors[tensor].magnitude, rel=1e-5)
        for precision, amax in observed.amax.items():
            assert amax == pytest.approx(expected.tensors[tensor].amax[precision], rel=0.02), (tensor, precision)


def test_only_what_groups_read_is_quantized_and_only_in_the_formats_asked_for():
    prepared = network("mlp")
    (ranges,) = ranges_by(prepared, prepared.samples(normal(4, 32)), ["minmax"], 4, formats=(INT8,))
    assert {n for n, r in ranges.tensors.items() if r.amax} == {"input", "fc1.relu.out", "fc2.relu.out"}
    assert all(set(r.amax) <= {INT8} for r in ranges.tensors.values())


@pytest.mark.parametrize("build", [inception, shared_maxpool])
@pytest.mark.parametrize("method", METHODS)
def test_tensors_that_share_a_scale_get_the_largest_amax(build, method):
    prepared = network(build.__name__)
    values = normal(9, *shape_of(prepared))
    shared = prepared.calibrated(prepared.samples(values), method)
    apart = replace(prepared, grouping=replace(prepared.grouping, ties=()))
    alone = apart.calibrated(apart.samples(values), method)
    sets = [[n for n in names if shared.tensors[n].amax] for names in prepared.grouping.shared_scales]
    assert any(len(names) > 1 for names in sets), "the network ties tensors that are quantized"
    for names in sets:
        for precision in QUANTIZED:
            widest = max((alone.tensors[n].amax[precision] for n in names), default=None)
            assert all(shared.tensors[n].amax[precision] == widest for n in names)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_nan_and_inf_are_refused_by_name(method, value):
    proto = mlp()
    weight = next(t for t in proto.graph.initializer if t.name == "fc2.bias")
    broken = onnx.numpy_helper.to_array(weight).copy()
    broken[3] = value
    weight.CopyFrom(onnx.numpy_helper.from_array(broken, "fc2.bias"))
    prepared = prepare(proto)
    with pytest.raises(CalibrationError, match=r"tensor fc2.add.out is NaN or infinite for calibration samples 0 to 3"):
        prepared.calibrated(prepared.samples(normal(4, 32)), method)


def test_what_is_not_finite_outside_groups_has_no_bounds():
    """As in T5, where the logarithm of zero is taken and then discarded."""
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["":17]> g (float[N,16] x) => (float[N,16] y) <float zero = {0.0}> {
            p = Relu(x) l = Log(p) q = Sqrt(x) some = Greater(p, zero) a = Where(some, l, p) b = Where(some, q, a)
            y = MatMul(b, w) }"""
    )
    weight = np.random.default_rng(0).standard_normal((16, 16)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    prepared, values = prepare(proto), normal(6, 16)
    ranges = prepared.calibrated(prepared.samples(values), "mse", batch=2)
    read = np.sqrt(values[values > 0])
    assert (ranges.tensors["l"].magnitude, ranges.tensors["q"].magnitude) == (np.inf, np.inf)
    assert ranges.tensors["b"].magnitude == pytest.approx(max(read.max(), 0), rel=1e-6)
    network = prepared.network(prepared.samples(values))
    plan = network.grouping.uniform(Precision.INT8)
    expected = prepared.tensors(values, "y")["y"]
    for graph in (network.emitter().reference(plan), network.emitter().strong(plan)):
        assert np.abs(RUNTIME.load(graph).run({"x": values})["y"] - expected).max() < 0.2


def test_an_overflow_in_one_sample_is_found_in_its_batch():
    prepared = network("mlp")
    values = normal(12, 32)
    values[9] = 3e38
    with pytest.raises(CalibrationError, match=r"tensor \S+ is NaN or infinite for calibration samples 8 to 11"):
        prepared.calibrated(prepared.samples(values), batch=4)


def test_large_finite_values_are_no_overflow():
    """The sum of many masked logits leaves float32, though none of them does."""
    b = Builder(0)
    masked = b.node("Add", "mask", ["input", b.constant("mask.value", np.float32(-3e38))])
    visible = b.node("Max", "clip", [masked, b.constant("floor", np.float32(-4))])
    b.gemm("fc", visible, (32, 16))
    prepared = prepare(b.model((32,), (16,)))
    ranges = prepared.calibrated(prepared.samples(normal(8, 32)))
    assert ranges.tensors["mask.out"].minimum == pytest.approx(-3e38)


def without_bins(ranges: Ranges) -> Ranges:
    """What decides: values of a tensor without a batch axis are counted once a batch, which only the report shows."""
    tensors = {name: replace(observed, bins=()) for name, observed in ranges.tensors.items()}
    return replace(ranges, tensors=tensors)


def test_an_empty_calibration_set_is_refused():
    prepared = network("mlp")
    empty = replace(prepared.samples(normal(2, 32)), count=0)
    with pytest.raises(CalibrationError, match="the calibration set is empty"):
        prepared.calibrated(empty)


def test_all_methods_at_once_are_each_alone():
    prepared = network("inception")
    samples = prepared.samples(normal(17, 3, 12, 12))
    together = ranges_by(prepared, samples, tuple(METHODS), 17)
    alone = tuple(prepared.calibrated(samples, method, 17) for method in METHODS)
    shared = [share_scales(ranges, prepared.grouping) for ranges in together]
    assert list(map(without_bins, shared)) == list(map(without_bins, alone))


def test_every_format_can_have_a_method_of_its_own():
    prepared = network("inception")
    samples = prepared.samples(normal(17, 3, 12, 12))
    widest, closest = ranges_by(prepared, samples, ["minmax", "mse"], 17)
    mixed = by_format((widest, closest), {FP8: "minmax", INT8: "mse"})
    assert mixed.methods == {FP8: "minmax", INT8: "mse"}
    assert mixed.agrees(widest, FP8)
    assert mixed.agrees(closest, INT8)
    assert not mixed.agrees(widest, INT8)
    assert {name: (r.minimum, r.maximum) for name, r in mixed.tensors.items()} == {
        name: (r.minimum, r.maximum) for name, r in widest.tensors.items()
    }
    assert {frozenset(r.amax) for r in mixed.tensors.values()} == {frozenset(), frozenset({FP8, INT8})}


def test_progress_ends_at_the_total_and_never_goes_back():
    prepared = network("mlp")
    steps: list[tuple[int, int]] = []
    ranges_by(
        prepared, prepared.samples(normal(10, 32)), ["mse"], 4, formats=(INT8,),
        progress=lambda done, total: steps.append((done, total)),
    )  # fmt: skip
    assert steps[-1] == (20, 20)
    assert steps == sorted(steps)


def test_memory_does_not_grow_with_the_data():
    prepared = network("mlp")

    def peak(count: int) -> int:
        samples = prepared.samples(normal(count, 32))
        tracemalloc.start()
        try:
            prepared.calibrated(samples, "mse", batch=16)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(64)  # imports
    assert peak(4096) < peak(64) + 600_000  # all that is read at once would be 2.4 million


def test_the_second_pass_bounds_what_one_run_returns(monkeypatch):
    prepared = network("residual_cnn")
    sizes: list[int] = []

    def transform(name, x):
        sizes.append(len(x))
        return x

    per_sample = sum(group.input_elements for group in prepared.grouping.groups)
    monkeypatch.setattr("trt_mpq.calibrate.ranges._CHUNK_ELEMENTS", 3 * per_sample)
    samples = prepared.samples(normal(9, 3, 16, 16))
    ranges_by(prepared, samples, ["mse"], 9, Affine(transform), formats=(INT8,))
    assert list(dict.fromkeys(sizes)) == [8, 1, 3], "the first pass reduces inside the graph and needs no such bound"


# What calibration forbids.


def restricted(prepared: Prepared, values: np.ndarray) -> dict[str, Mapping[Precision, str]]:
    ranges = prepared.calibrated(prepared.samples(values))
    grouping = restrict_to_ranges(prepared.grouping, ranges, prepared.graph.graph)
    return {group.id: group.excluded for group in grouping.groups}


def test_nothing_is_forbidden_on_ordinary_data():
    assert all(not excluded for excluded in restricted(network("residual_cnn"), normal(4, 3, 16, 16)).values())


def test_a_zero_input_keeps_its_group_out_of_8_bit():
    b = Builder(0)
    x = b.relu("dead", b.node("Sub", "shift", ["input", b.constant("far", np.float32(100))]))
    b.gemm("fc2", b.relu("fc1.relu", b.gemm("fc1", x, (32, 24))), (24, 16))
    excluded = restricted(prepare(b.model((32,), (16,))), normal(8, 32))
    assert set(excluded["fc1"]) == set(Precision.reading())
    assert excluded["fc1"][INT8] == "tensor dead.out is zero in all calibration data, so it has no scale"
    assert excluded["fc2"] == {}


def scaled(factor: float) -> onnx.ModelProto:
    """fc1 scales its output up by `factor`, fc2 brings it down again."""
    b = Builder(0)
    first = b.constant("fc1.weight", (np.eye(32) * factor).astype(np.float32))
    second = b.constant("fc2.weight", (np.eye(32) / factor).astype(np.float32))
    x = b.node("MatMul", "fc2", [b.relu("fc1.relu", b.node("MatMul", "fc1", ["input", first])), second])
    b.gemm("fc3", b.relu("fc2.relu", x), (32, 16))
    return b.model((32,), (16,))


def test_a_value_beyond_fp16_keeps_all_its_groups_in_fp32():
    excluded = restricted(prepare(scaled(50000.0)), normal(8, 32))
    for group in ("fc1", "fc2"):
        assert set(excluded[group]) == {FP16, *EVERY}
        assert "beyond the FP16 range of 65504" in excluded[group][FP16]
    assert excluded["fc3"] == {}


def test_the_fp16_limit_itself_is_allowed():
    values = np.zeros((2, 32), np.float32)
    values[0, 0] = 1
    assert restricted(prepare(scaled(65504.0)), values)["fc1"] == {}
    assert FP16 in restricted(prepare(scaled(65536.0)), values)["fc1"]


def test_bf16_holds_what_fp16_does_not():
    """On top it keeps no group out, not even of 8 bit; as the refuge it is open where FP16 is not."""
    prepared, values = prepare(scaled(1e6)), np.ones((2, 32), np.float32)
    ranges = prepared.calibrated(prepared.samples(values), "mse")
    for top, refuge, excluded in ((BF16, FP32, set()), (FP16, BF16, {FP16, *EVERY})):
        grouping = replace(prepared.grouping, top=top, refuge=refuge)
        restricted_to = restrict_to_ranges(grouping, ranges, prepared.graph.graph)
        assert set(group_called("fc1", restricted_to).excluded) == excluded
    assert restricted_to.uniform(INT8)["fc1"] is BF16
    assert 0 < ranges.tensors["fc1.relu.out"].amax[INT8] <= 1e6


def test_a_value_beyond_fp16_inside_a_group_counts():
    """The sum is far below zero and the Relu hides it from everyone outside the group."""
    b = Builder(0)
    stem = b.node("Mul", "grow", ["input", b.constant("large", np.float32(-60000))])
    x = b.node("Add", "join", [b.conv("fc1", stem, (32, 32), kernel=1), stem])
    b.conv("fc2", b.node("Min", "limit", [b.relu("join.relu", x), b.constant("one", np.float32(1))]), (32, 16))
    values = np.full((2, 32, 2, 2), 0.9, np.float32)
    weight = next(t for t in b.initializers if t.name == "fc1.weight")
    diagonal = np.eye(32, dtype=np.float32).reshape(32, 32, 1, 1) * 0.9
    weight.CopyFrom(onnx.numpy_helper.from_array(diagonal, "fc1.weight"))
    prepared = prepare(b.model((32, 2, 2), (16, 2, 2)))
    ranges = prepared.calibrated(prepared.samples(values))
    group = group_called("fc1", prepared.grouping)
    assert group.output == "join.relu.out"
    assert all(ranges.tensors[name].magnitude < 65504 for name in ("grow.out", group.weight.output, group.output))
    assert "tensor join.out reaches" in restricted(prepared, values)["fc1"][FP16]


def test_a_weight_beyond_fp16_counts_and_the_bound_of_a_clip_does_not():
    proto = scaled(1.0)
    weight = next(t for t in proto.graph.initializer if t.name == "fc1.weight")
    huge = onnx.numpy_helper.to_array(weight).copy()
    huge[0, 1] = 1e5
    weight.CopyFrom(onnx.numpy_helper.from_array(huge, "fc1.weight"))
    values = normal(4, 32)
    values[:, 0] = 0
    assert "tensor fc1.weight reaches 1e+05" in restricted(prepare(proto), values)["fc1"][FP16]

    clipped = depthwise_cnn()
    for bound in [t for t in clipped.graph.initializer if t.name.endswith(".high")]:
        bound.CopyFrom(onnx.numpy_helper.from_array(np.float32(3.4e38), bound.name))
    assert all(FP16 not in excluded for excluded in restricted(prepare(clipped), normal(2, 3, 16, 16)).values())


@pytest.mark.parametrize("method", METHODS)
def test_a_value_beyond_fp16_does_not_stop_calibration(method):
    prepared = prepare(scaled(1e9))
    ranges = prepared.calibrated(prepared.samples(normal(4, 32)), method)
    assert ranges.tensors["fc1.relu.out"].magnitude > 1e8
