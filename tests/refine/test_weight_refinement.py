"""Codes and scales found for weights: scales against trying them all, whole networks against nearest rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.networks import Builder
from tests.prepared import RUNTIME, Prepared, prepare
from trt_mpq.calibrate.ranges import calibrate, share_scales
from trt_mpq.emit import Network, RefinedWeights, Refinements
from trt_mpq.numerics import clipped_scales, quantize_weight, weight_scales, with_scales
from trt_mpq.refine.files import save_weights, weights_from_file
from trt_mpq.refine.gptq import round_weights
from trt_mpq.refine.products import moments_in_parts, products_in
from trt_mpq.refine.weight_scales import RATIOS, best_scales, clip_weights
from trt_mpq.types import Precision

INT8, INT4, W4A16, NVFP4 = Precision.INT8, Precision.INT4, Precision.W4A16, Precision.NVFP4
WIDTH = 128


def perceptron(transposed: bool = False) -> Prepared:
    """Two linear layers of 128 inputs, whose inputs depend on each other: 128 numbers to 32."""
    b = Builder(3)
    x = b.relu("first.relu", b.gemm("first", "input", (WIDTH, WIDTH), transposed=transposed))
    b.gemm("second", x, (WIDTH, 32), transposed=not transposed)
    return prepare(b.model((WIDTH,), (32,)))


def data(count: int = 192) -> np.ndarray:
    random = np.random.default_rng(0)
    mixing = random.standard_normal((WIDTH // 4, WIDTH))
    noise = 0.3 * random.standard_normal((count, WIDTH))
    return (random.standard_normal((count, WIDTH // 4)) @ mixing + noise).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> tuple[Prepared, Network]:
    prepared = perceptron()
    formats = (INT8, Precision.FP8, INT4, NVFP4)
    samples = prepared.samples(data())
    (ranges,) = calibrate(
        prepared.graph, prepared.grouping, samples, RUNTIME, methods=("minmax",), formats=formats, batch=64
    )
    return prepared, Network(prepared.model, prepared.graph, prepared.grouping, share_scales(ranges, prepared.grouping))


def found(network: tuple[Prepared, Network], precision: Precision, *, clip: bool, gptq: bool) -> RefinedWeights:
    prepared, calibrated = network
    arguments = (prepared.samples(data()), RUNTIME, 64, lambda done, total: None)
    clipped = clip_weights(calibrated, precision, *arguments) if clip else {}
    return round_weights(calibrated, precision, clipped, *arguments) if gptq else clipped


def noise(network: tuple[Prepared, Network], precision: Precision, weights: RefinedWeights) -> float:
    """Squared error of the outputs, quantized to `precision`, relative to the outputs."""
    prepared, calibrated = network
    plan = calibrated.grouping.uniform(precision)
    exact = RUNTIME.load(prepared.graph).run({"input": data()})["output"]
    graph = calibrated.emitter(Refinements(weights=weights)).reference(plan)
    got = RUNTIME.load(graph).run({"input": data()})["output"]
    return float(np.square(got - exact).sum() / np.square(exact).sum())


def test_moments_are_numpys_and_do_not_depend_on_parts(
    network: tuple[Prepared, Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, calibrated = network
    products = products_in(calibrated, INT8)
    assert [(product.weight.node, product.operand, product.summed) for product in products] == [
        ("first", ("input", -1), WIDTH), ("second", ("first.relu.out", -1), WIDTH),
    ]  # fmt: skip
    inputs = prepared.tensors(data(), "input", "first.relu.out")
    for limit in (1 << 30, 1):
        monkeypatch.setattr("trt_mpq.refine.products._KEPT_ELEMENTS", limit)
        parts = list(moments_in_parts(calibrated, products, prepared.samples(data()), RUNTIME, 50))
        assert len(parts) == (1 if limit > 1 else 2)
        moments = {name: value for _, part in parts for name, value in part.items()}
        for name, values in inputs.items():
            np.testing.assert_allclose(moments[name, -1], values.T @ values / len(values), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("precision", [INT8, INT4, Precision.FP8, W4A16, NVFP4])
@pytest.mark.parametrize("axis", [0, 1])
def test_scales_are_the_best_of_all_that_are_tried(precision: Precision, axis: int) -> None:
    random = np.random.default_rng(1)
    content = random.standard_t(3, (WIDTH, WIDTH)).astype(np.float32)
    importance = random.random((WIDTH, WIDTH)).astype(np.float32)
    whole = weight_scales(content, axis, precision)
    scales = best_scales(content, whole, precision, Precision.FP16, importance)

    def lost(values: np.ndarray) -> np.ndarray:
        """Per channel and block, channels first."""
        error = np.square(values - content) * importance
        rows = error if axis == 0 else error.T
        return rows.reshape(WIDTH, -1, scales.block or WIDTH).sum(axis=2)

    ones = np.ones(whole.scale.shape, np.float32)
    tried = [clipped_scales(whole, ones * ratio, precision) for ratio in RATIOS]
    np.testing.assert_array_equal(tried[0].scale.astype(np.float32), whole.scale.astype(np.float32))
    amax = np.abs(content).max() * 0.5  # half of the largest magnitude is what the last scales hold, but for rounding
    reach = tried[-1].steps(2).max() * precision.codes.largest
    np.testing.assert_allclose(reach, amax, rtol=0.07 if precision is NVFP4 else 1e-3)
    every = [lost(with_scales(content, each, precision).values) for each in tried]
    np.testing.assert_allclose(lost(with_scales(content, scales, precision).values), np.min(every, axis=0), rtol=1e-5)


@pytest.mark.parametrize("precision", [INT4, W4A16, NVFP4, INT8])
def test_outputs_come_closer_with_each_refinement(network: tuple[Prepared, Network], precision: Precision) -> None:
    nearest = noise(network, precision, {})
    clipped = noise(network, precision, found(network, precision, clip=True, gptq=False))
    both = noise(network, precision, found(network, precision, clip=True, gptq=True))
    assert both < clipped
    assert both < 0.9 * nearest or precision is INT8  # whose activations are rounded as coarsely


@pytest.mark.parametrize("precision", [INT8, W4A16, NVFP4])
def test_what_is_delivered_holds_the_codes_and_scales_that_were_found(
    network: tuple[Prepared, Network], precision: Precision
) -> None:
    _, calibrated = network
    weights = found(network, precision, clip=True, gptq=True)
    emitter, plan = calibrated.emitter(Refinements(weights=weights)), calibrated.grouping.uniform(precision)
    graph = emitter.strong(plan).graph
    for (name, _), expected in weights.items():
        stored = graph.initializers[f"{name}_{precision}_codes"].const_value.numpy()
        np.testing.assert_array_equal(stored.astype(np.float32), expected.codes.astype(np.float32))
        axis = next(group.weight.axis for group in calibrated.grouping.groups if group.weight.name == name)
        nearest = quantize_weight(calibrated.graph.graph.initializers[name].const_value.numpy(), axis, precision)
        assert (nearest.values != expected.values).any()


def test_the_weak_flavour_computes_the_same(network: tuple[Prepared, Network]) -> None:
    _, calibrated = network
    refinements = Refinements(weights=found(network, INT8, clip=True, gptq=True))
    emitter, plan = calibrated.emitter(refinements), calibrated.grouping.uniform(INT8)
    weak, reference = (RUNTIME.load(make(plan)).run({"input": data()}) for make in (emitter.weak, emitter.reference))
    apart = np.square(weak["output"] - reference["output"]).sum() / np.square(reference["output"]).sum()
    assert apart < 1e-4, "but for activations that tip to the next code"
    assert apart < 0.2 * noise(network, INT8, {})


@pytest.mark.parametrize("precision", [INT8, Precision.FP8, W4A16, NVFP4])
def test_the_file_holds_them_exactly(network: tuple[Prepared, Network], precision: Precision, tmp_path: Path) -> None:
    weights = found(network, precision, clip=True, gptq=False)
    save_weights(weights, tmp_path / "weights.npz")
    loaded = weights_from_file(tmp_path / "weights.npz")
    assert loaded.keys() == weights.keys()
    for key, own in weights.items():
        np.testing.assert_array_equal(loaded[key].values, own.values)
        assert loaded[key].codes.dtype == own.codes.dtype
        assert (loaded[key].scales.axis, loaded[key].scales.block) == (own.scales.axis, own.scales.block)
    assert Refinements(weights=loaded).digest == Refinements(weights=weights).digest != Refinements().digest


def test_plans_with_other_weights_have_other_marks(network: tuple[Prepared, Network]) -> None:
    _, calibrated = network
    plan = calibrated.grouping.uniform(INT8)
    marks = {Refinements(weights=w).marks(plan) for w in ({}, found(network, INT8, clip=True, gptq=False))}
    assert len(marks) == 2
    assert Refinements(weights=found(network, INT4, clip=True, gptq=False)).marks(plan) == ()
