"""What FP16 rounds to zero and cannot: small networks in FP16 against themselves in FP32, and how wide each node is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx.parser
import pytest

from tests.prepared import RUNTIME, Prepared, normal, prepare
from trt_mpq.calibrate.restrictions import restrict_to_ranges
from trt_mpq.calibrate.soundness import first_not_finite
from trt_mpq.emit import Network
from trt_mpq.types import Grouping, Precision

FP32, FP16, BF16, FP8, INT8, INT4 = map(Precision, ("fp32", "fp16", "bf16", "fp8", "int8", "int4"))

TAILS = {
    "log of a power": ("p = Mul(a, a) s = Add(p, e10) out = Log(s)", {"p", "s", "out"}),
    "log of a power, at least": ("p = Mul(a, a) s = Max(p, e10) out = Log(s)", {"p", "s", "out"}),
    "log of a power, clipped": ("p = Mul(a, a) s = Clip(p, e10) out = Log(s)", {"p", "s", "out"}),
    "log of probabilities": ("g = Mul(a, steep) s = Softmax <axis: int = 1> (g) out = Log(s)", {"s", "out"}),
    "one root": (
        "p = Mul(a, a) m = ReduceMean <axes: ints = [1]> (p) s = Add(m, e12) r = Sqrt(s) out = Div(a, r)",
        {"p", "m", "s", "r"},
    ),
    "a negative power": (
        "p = Pow(a, two) m = ReduceMean <axes: ints = [1]> (p) s = Add(m, e12) r = Pow(s, minus) q = Mul(r, tiny) "
        "out = Mul(a, q)",
        {"p", "m", "s", "r", "q"},
    ),
    "a reciprocal root": (
        "p = Mul(a, a) s = Add(p, e12) r = Sqrt(s) t = Mul(r, k) i = Reciprocal(t) out = Mul(a, i)",
        {"p", "s", "r"},
    ),
    "a norm": ("n = ReduceL2 <axes: ints = [1]> (a) s = Max(n, e12) out = Div(a, s)", {"n", "s", "out"}),
    "a factor": ("s = Mul(a, e10) out = Mul(s, back)", {"s", "out"}),
}
"""Operators behind a convolution whose results are zero for half of the data, and those that need more than FP16."""

CONSTANTS = {"e10": 1e-10, "e12": 1e-12, "two": 2.0, "minus": -0.5, "steep": 2.0, "tiny": 0.01, "k": 1e3, "back": 1e10}


def network(tail: str) -> Prepared:
    """A 1 x 1 convolution and the operators of `tail`, which make `out` of its result `a`."""
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 16, 6, 6] input) => (float[N, C, 6, 6] out) '
        f"{{ a = Conv(input, w) {tail} }}"
    )
    for node in proto.graph.node:
        node.name = node.output[0]
    channels = {"one": np.ones(16), "none": np.zeros(16), "variance": np.full(16, 1e-9)}
    arrays = {
        "w": normal(16, 16, 1, 1),
        **{name: array.astype(np.float32) for name, array in channels.items()},
        **{name: np.float32(value) for name, value in CONSTANTS.items()},
    }
    read = dict.fromkeys(name for node in proto.graph.node for name in node.input if name in arrays)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(arrays[name], name) for name in read)
    return prepare(proto)


def half_silent() -> np.ndarray:
    values = normal(8, 16, 6, 6)
    values[4:] = 0
    return values


def calibrated(prepared: Prepared, values: np.ndarray, refuge: Precision = BF16, top: Precision = FP16) -> Network:
    ranges = prepared.calibrated(prepared.samples(values))
    grouping = replace(prepared.grouping, top=top, refuge=refuge)
    restricted = restrict_to_ranges(grouping, ranges, prepared.graph.graph)
    return Network(prepared.model, prepared.graph, restricted, ranges)


def kept_wide(grouping: Grouping, top: Precision = FP16) -> set[str]:
    parts = (*((group.id, group) for group in grouping.groups), *((op.node, op) for op in grouping.loose))
    return {name for name, part in parts if not part.allows(top)}


@pytest.mark.parametrize("refuge", [BF16, FP32])
@pytest.mark.parametrize("kind", TAILS)
def test_what_fp16_would_make_zero_is_kept_wide_and_the_network_finite(kind: str, refuge: Precision) -> None:
    tail, wide = TAILS[kind]
    prepared, values = network(tail), half_silent()
    found = calibrated(prepared, values, refuge)
    assert kept_wide(found.grouping) == wide
    expected = RUNTIME.load(prepared.graph).run({"input": values})["out"]
    got = RUNTIME.load(found.emitter().reference(found.grouping.uniform(FP16))).run({"input": values})["out"]
    noise = np.square(got - expected).mean() / np.square(expected).mean()
    assert noise < 1e-4
    assert first_not_finite(found, prepared.samples(values), RUNTIME, 4) is None


def test_without_that_the_first_node_that_fails_is_named() -> None:
    prepared, values = network(TAILS["log of probabilities"][0]), half_silent()
    found = calibrated(prepared, values)
    careless = replace(found, grouping=replace(prepared.grouping, top=FP16))
    assert first_not_finite(careless, prepared.samples(values), RUNTIME, 4) == "out (Log)"


@pytest.mark.parametrize("kind", ["one root", "a norm", "a negative power"])
def test_a_guard_that_no_sample_needs_costs_nothing(kind: str) -> None:
    """Behind every sum over channels stands something of order one, so the constant does not matter."""
    assert kept_wide(calibrated(network(TAILS[kind][0]), normal(8, 16, 6, 6)).grouping) == set()


@pytest.mark.parametrize("kind", ["one root", "a norm", "a negative power", "a reciprocal root"])
def test_such_a_guard_still_holds_for_data_that_need_it(kind: str) -> None:
    """Calibrated with sounds and fed silence, in every file: the guard is the least that FP16 has, not zero."""
    prepared = network(TAILS[kind][0])
    found = calibrated(prepared, np.abs(normal(8, 16, 6, 6)) + 1)
    loose = replace(found, grouping=replace(prepared.grouping, top=FP16))
    plan = loose.grouping.uniform(FP16)
    for graph in (loose.emitter().reference(plan), loose.emitter().strong(plan)):
        out = RUNTIME.load(graph).run({"input": half_silent()})["out"]
        assert np.isfinite(out).all()
        np.testing.assert_array_equal(out[4:], 0)


def test_small_values_that_nobody_divides_by_are_harmless() -> None:
    tail = "r = Relu(a) s = Softmax <axis: int = 1> (r) t = Mul(s, tiny) out = Add(t, e12)"
    values = half_silent() * 100
    assert kept_wide(calibrated(network(tail), values).grouping) == set()


def test_a_group_that_writes_what_has_no_logarithm_leaves_fp16_as_a_whole() -> None:
    found = calibrated(network("s = Softplus(a) out = Log(s)"), normal(8, 16, 6, 6) * 2)
    (group,) = found.grouping.groups
    assert set(group.excluded) >= {FP16, FP8, INT8, INT4}
    assert "which FP16 rounds to 0, and out (Log) has no value there" in group.excluded[FP16]
    assert found.grouping.uniform(INT8)[group.id] is BF16


def test_behind_a_guard_a_group_may_vanish() -> None:
    """What is added, not the convolution, keeps the logarithm finite."""
    found = calibrated(network("r = Relu(a) s = Add(r, e10) out = Log(s)"), half_silent())
    assert kept_wide(found.grouping) == {"s", "out"}


@pytest.mark.parametrize(("epsilon", "wide"), [(1e-12, {"out"}), (1e-5, set())])
def test_the_variance_of_a_normalization_is_a_divisor(epsilon: float, wide: set[str]) -> None:
    """Of one that no convolution takes in; a usual epsilon is larger than what is lost."""
    arguments = "r, one, none, none, variance"
    prepared = network(f"r = Relu(a) out = BatchNormalization <epsilon: float = {epsilon}> ({arguments})")
    assert kept_wide(calibrated(prepared, half_silent() * 1e-5).grouping) == wide


def test_bf16_holds_all_of_it() -> None:
    found = calibrated(network(TAILS["one root"][0]), half_silent(), refuge=FP32, top=BF16)
    assert kept_wide(found.grouping, BF16) == set()


def test_the_squares_of_a_norm_overflow_and_vanish_unseen() -> None:
    """TensorRT's parser makes a product, a sum and a root of ReduceL2."""
    tail = "n = ReduceL2 <axes: ints = [1]> (a) out = Div(a, n)"
    assert kept_wide(calibrated(network(tail), normal(8, 16, 6, 6) * 1e-5).grouping) == {"n"}
