"""Learned roundings mean the same codes in every flavour, and those codes are what was decided."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from tests.emit.examples import prepared, uniform
from tests.fixtures_groups import group_called
from tests.networks import NETWORKS, sample_input
from tests.prepared import RUNTIME, Prepared
from trt_mpq.emit import Emitter, Own, Refinements
from trt_mpq.graph.edit import constant_array, node_by_name
from trt_mpq.runtime.base import with_outputs
from trt_mpq.types import Precision, PrecisionPlan, Weight

INT8, INT4, FP8 = Precision.INT8, Precision.INT4, Precision.FP8
LARGEST = {INT8: 127, INT4: 7, FP8: 448}


def random_roundings(network: Prepared, precision: Precision) -> dict[tuple[str, Precision], np.ndarray]:
    random = np.random.default_rng(0)
    weights = [weight for group in network.grouping.groups for weight in group.weights]
    return {(weight.name, precision): random.integers(0, 2, weight.shape).astype(bool) for weight in weights}


def emitter(name: str, precision: Precision) -> tuple[Emitter, dict[tuple[str, Precision], np.ndarray]]:
    network = prepared(name)
    ranges = network.calibrated(network.samples(sample_input(NETWORKS[name](), 4)["input"]))
    roundings = random_roundings(network, precision)
    return Emitter(network.graph, network.grouping, ranges, Refinements(roundings=roundings)), roundings


def scale_of(content: np.ndarray, weight: Weight, precision: Precision) -> np.ndarray:
    """From the formula: amax over the largest code, as float16, lined up with the weight."""
    axes = tuple(axis for axis in range(content.ndim) if axis != weight.axis)
    amax = np.abs(content).max(axis=axes if weight.axis is not None else None, keepdims=True)
    return (amax / np.float32(LARGEST[precision])).astype(np.float16).astype(np.float32)


def decided(network: Prepared, weight: Weight, precision: Precision, up: np.ndarray) -> np.ndarray:
    """Independent of the product: floor or floor + 1, or the neighbouring value of ml_dtypes' E4M3FN."""
    content = constant_array(network.graph.graph.initializers[weight.name])
    ratio = content / scale_of(content, weight, precision)
    if precision is not FP8:
        return np.clip(np.floor(ratio) + up, -LARGEST[precision] - 1, LARGEST[precision])
    values = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    values = values[np.isfinite(values)]
    below = np.array([values[values <= r].max(initial=-448) for r in ratio.ravel()]).reshape(ratio.shape)
    above = np.array([values[values > b].min(initial=448) for b in below.ravel()]).reshape(ratio.shape)
    return np.where(up & (ratio >= -448), above, below)


def weight_input(graph: ir.Model, weight: Weight) -> ir.Value:
    value = node_by_name(graph.graph, weight.node).inputs[1]
    assert value is not None
    return value


def stored(graph: ir.Model, weight: Weight) -> np.ndarray:
    """The codes behind the DequantizeLinear that the anchor of a strong graph reads."""
    value = weight_input(graph, weight)
    while value.producer() is not None:
        value = value.producer().inputs[0]
    return value.const_value.numpy().astype(np.float32)


@pytest.mark.parametrize("precision", [INT8, INT4, FP8])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_flavour_means_the_decided_codes(name: str, precision: Precision) -> None:
    network, plan = prepared(name), uniform(name, precision)
    source, roundings = emitter(name, precision)
    reference, strong = source.reference(plan), source.strong(plan)
    weak = source.weak(plan) if precision is INT8 else None
    for weight in (weight for group in network.grouping.groups for weight in group.weights):
        content = constant_array(network.graph.graph.initializers[weight.name])
        expected = decided(network, weight, precision, roundings[weight.name, precision])
        np.testing.assert_array_equal(stored(strong, weight), expected)
        scale = scale_of(content, weight, precision)
        np.testing.assert_array_equal(constant_array(weight_input(reference, weight)), expected * scale)
        if weak is not None:
            dequantized = str(weight_input(weak, weight).name)
            values = RUNTIME.load(with_outputs(weak, [dequantized])).run(sample_input(NETWORKS[name](), 1))
            np.testing.assert_array_equal(values[dequantized], expected * scale)


def test_no_code_is_more_than_one_step_from_the_nearest() -> None:
    network, plan = prepared("residual_cnn"), uniform("residual_cnn", INT8)
    source, _ = emitter("residual_cnn", INT8)
    plain = Emitter(network.graph, network.grouping, source._ranges).strong(plan)
    learned = source.strong(plan)
    distances = [np.abs(stored(learned, g.weight) - stored(plain, g.weight)).max() for g in network.grouping.groups]
    assert max(distances) == 1


def test_a_rounding_counts_only_in_its_precision_and_only_for_its_weight() -> None:
    network = prepared("mlp")
    ranges = network.calibrated(network.samples(sample_input(NETWORKS["mlp"](), 4)["input"]))
    first, second, _ = (group.weight for group in network.grouping.groups)
    only = Refinements(roundings={(first.name, INT8): np.ones(first.shape, bool)})
    plain, learned = (Emitter(network.graph, network.grouping, ranges, given) for given in (None, only))
    for precision, changed in ((INT8, True), (FP8, False)):
        plan = uniform("mlp", precision)
        before, after = plain.strong(plan), learned.strong(plan)
        assert np.array_equal(stored(before, first), stored(after, first)) is not changed
        np.testing.assert_array_equal(stored(before, second), stored(after, second))


def test_corrections_of_a_plan_of_its_own_replace_the_others_there_only() -> None:
    network = prepared("mlp")
    ranges = network.calibrated(network.samples(sample_input(NETWORKS["mlp"](), 4)["input"]))
    mixed = uniform("mlp", INT8).replace({"fc2": Precision.FP16})
    common = {("fc1", INT8): np.full(64, 1.0, np.float32), ("fc3", INT8): np.full(16, 1.0, np.float32)}
    refinements = Refinements(common, own={mixed.digest: Own({("fc1", INT8): np.full(64, 5.0, np.float32)})})
    assert shifts(network, Emitter(network.graph, network.grouping, ranges, refinements), mixed) == {"fc1": 5, "fc3": 0}
    plan = uniform("mlp", INT8)
    assert shifts(network, Emitter(network.graph, network.grouping, ranges, refinements), plan) == {"fc1": 1, "fc3": 1}


def test_roundings_of_a_plan_of_its_own_replace_the_others_there_only() -> None:
    network = prepared("mlp")
    ranges = network.calibrated(network.samples(sample_input(NETWORKS["mlp"](), 4)["input"]))
    mixed, plan = uniform("mlp", INT8).replace({"fc2": Precision.FP16}), uniform("mlp", INT8)
    weight = group_called("fc1", network.grouping).weight
    shared, own = ({(weight.name, INT8): np.full(weight.shape, up)} for up in (True, False))
    source = Emitter(network.graph, network.grouping, ranges, Refinements({}, shared, {mixed.digest: Own({}, own)}))
    codes = [stored(source.strong(each), weight) for each in (plan, mixed, plan)]
    assert (codes[1] <= codes[0]).all()
    assert (codes[1] < codes[0]).any()
    np.testing.assert_array_equal(codes[2], codes[0])
    folded = [constant_array(weight_input(source.reference(each), weight)) for each in (plan, mixed, plan)]
    assert (folded[1] < folded[0]).any()
    np.testing.assert_array_equal(folded[2], folded[0])


def shifts(network: Prepared, source: Emitter, plan: PrecisionPlan) -> dict[str, float]:
    graph = source.weak(plan).graph
    found = {}
    for name in ("fc1", "fc3"):
        group = group_called(name, network.grouping)
        before = constant_array(network.graph.graph.initializers[group.weight.bias])
        bias = node_by_name(graph, name).inputs[2]
        assert bias is not None
        found[name] = round(float((constant_array(bias) - before).mean()), 3)
    return found


def test_marks_tell_apart_what_scores_differently() -> None:
    plan = PrecisionPlan.of({"a": INT8, "b": Precision.FP16})
    correction, up = np.zeros(1, np.float32), np.zeros((2, 2), bool)
    corrected = Refinements({("a", INT8): correction})
    rounded = Refinements(roundings={("w", INT8): up})
    flipped = Refinements(roundings={("w", INT8): ~up})
    own = Refinements({("a", INT8): correction}, own={plan.digest: Own({})})
    own_rounded = Refinements(roundings={("w", INT8): up}, own={plan.digest: Own({}, {("w", INT8): ~up})})
    states = [
        Refinements(),
        corrected,
        rounded,
        flipped,
        own,
        own_rounded,
        Refinements({("a", INT8): correction}, {("w", INT8): up}),
    ]
    assert len({state.marks(plan) for state in states}) == len(states)
    assert corrected.marks(plan) == ("int8",)
    other = PrecisionPlan.of({"a": FP8, "b": Precision.FP16})
    assert {state.marks(other) for state in states} == {()}
