"""Groups with several weights and groups without one, as transformers have them."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from tests.emit.examples import feeds, prepared
from tests.fixtures_groups import group_called
from tests.prepared import RUNTIME
from tests.sensitivity.examples import with_network
from trt_mpq.evaluate.losses import LOSSES
from trt_mpq.numerics import fake_quantize, quantize_weight, scale_from_amax
from trt_mpq.runtime.base import with_outputs
from trt_mpq.sensitivity import SensitivityInputs
from trt_mpq.sensitivity.hessian import HessianTrace
from trt_mpq.sensitivity.noise import GaussianNoise
from trt_mpq.sensitivity.perturbation import add_noise
from trt_mpq.sensitivity.quantization_error import QuantizationError
from trt_mpq.types import LayerGroup, Precision, Weight

INT8, FP8 = Precision.INT8, Precision.FP8


@cache
def inputs(name: str = "bert") -> SensitivityInputs:
    network = prepared(name)
    samples = network.samples(feeds(name, 6)["input"])
    return SensitivityInputs(
        network=network.network(samples),
        candidates=(INT8, FP8),
        samples=samples,
        sample_limit=6,
        loss=LOSSES["mse"],
        runtime=RUNTIME,
        batch=4,
        seed=0,
    )


def weight_in(given: SensitivityInputs, weight: Weight) -> np.ndarray:
    return given.network.graph.graph.initializers[weight.name].const_value.numpy()


def test_error_of_attention_is_that_of_its_four_operands() -> None:
    given = inputs()
    group = group_called("qk", given.network.grouping)
    names = [site.tensor for site in group.inputs]
    values = RUNTIME.load(with_outputs(given.network.graph, names)).run(feeds("bert", 6))
    expected = 0.0
    for name in names:
        scale = scale_from_amax(given.network.ranges.tensors[name].amax[INT8], INT8)
        change = fake_quantize(values[name], scale, INT8) - values[name]
        expected += float(np.sqrt(np.mean(change**2))) / float(np.abs(values[name]).max())
    assert QuantizationError().rank(given).scores[INT8]["qk"] == pytest.approx(expected, rel=1e-4)
    assert QuantizationError(activations=False).rank(given).scores[INT8]["qk"] == 0.0


def test_error_of_joined_weights_is_that_of_one_weight_side_by_side() -> None:
    given = inputs()
    group = group_called("query", given.network.grouping)
    joined = np.concatenate([weight_in(given, weight) for weight in group.weights], axis=1)
    change = quantize_weight(joined, 1, INT8).values - joined
    expected = np.sqrt(np.mean(change**2)) / np.abs(joined).max()
    assert QuantizationError(activations=False).rank(given).scores[INT8]["query"] == pytest.approx(expected, rel=1e-5)
    whole = QuantizationError().rank(given).scores[INT8]["query"]
    single = replace(group, inputs=group.inputs[:1])
    once = with_network(given, grouping=replace(given.network.grouping, groups=(single,)))
    assert whole == QuantizationError().rank(once).scores[INT8]["query"], "the tensor they share counts once"


def test_joined_reads_of_one_tensor_see_one_noise() -> None:
    given = inputs()
    group = group_called("query", given.network.grouping)
    noisy, weights, noises = add_noise(given.network.graph, group)
    assert len(weights) == len(group.weights) == 3
    for own, weight in zip(weights.values(), group.weights, strict=True):
        np.testing.assert_array_equal(own, weight_in(given, weight))
    (noise,) = noises.values()
    assert [value.name for value in noisy.graph.inputs] == ["input", *weights, noise]
    reads = {node.inputs[0] for node in noisy.graph if node.name in ("query", "key", "value")}
    assert len(reads) == 1
    ids = feeds("bert", 2)
    quiet = {noise: np.zeros((2, 16 * 32), np.float32)}
    expected = RUNTIME.load(given.network.graph).run(ids)["output"]
    np.testing.assert_allclose(RUNTIME.load(noisy).run(ids | weights | quiet)["output"], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "gpt", "vit", "conv_attention"])
def test_noise_ranks_every_group(name: str) -> None:
    ranking = GaussianNoise(noise_amplitude=2.0).rank(inputs(name))
    groups = {group.id for group in prepared(name).grouping.groups}
    for precision in (INT8, FP8):
        scores = ranking.scores[precision]
        assert scores.keys() == groups
        assert all(math.isfinite(score) for score in scores.values())
        assert scores["qk"] > 0
    assert ranking.scores[FP8]["qk"] > ranking.scores[INT8]["qk"], "its steps at the largest magnitude are larger"


def test_hessian_knows_nothing_of_attention_and_lowers_it_last() -> None:
    ranking = HessianTrace(trials=1, estimator="forward").rank(inputs())
    for precision in (INT8, FP8):
        assert ranking.scores[precision]["qk"] == math.inf
        assert ranking.order(precision)[-1] == "qk"
        assert sum(math.isinf(score) for score in ranking.scores[precision].values()) == 1


def test_trace_of_joined_weights_is_the_sum_of_their_traces() -> None:
    """Apart, each weight is a group of its own."""
    given = inputs()
    group = group_called("query", given.network.grouping)
    parts = tuple(
        replace(group, id=weight.node, index=i, weights=(weight,), inputs=(group.inputs[i],))
        for i, weight in enumerate(group.weights)
    )
    metric = HessianTrace(trials=60, weighted=False, estimator="forward", step=0.02)

    def trace(*groups: LayerGroup) -> float:
        own = with_network(given, grouping=replace(given.network.grouping, groups=groups))
        averages = metric.rank(own).scores[INT8]
        return sum(averages[group.id] * group.weight_elements for group in groups)

    assert trace(group) == pytest.approx(trace(*parts), rel=0.35)


def test_hessian_of_attention_alone_needs_no_pass() -> None:
    given = inputs()
    alone = with_network(
        given, grouping=replace(given.network.grouping, groups=(group_called("qk", given.network.grouping),))
    )
    ranking = HessianTrace().rank(alone)
    assert (ranking.scores[INT8], ranking.forward_passes) == ({"qk": math.inf}, 0.0)
