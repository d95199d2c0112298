"""Really quantized groups against a small network computed by hand, and the inter-layer order against brute force."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace as changed
from itertools import combinations, pairwise

import numpy as np
import onnx
import pytest

from tests.evaluate.scorers import sentence_encoder, sentences
from tests.networks import sample_input
from tests.prepared import RUNTIME, prepare
from tests.sensitivity.examples import QUANTIZED, inputs_for, smooth_mlp
from tests.sensitivity.test_quantization_error import rounded
from trt_mpq.errors import SettingsError
from trt_mpq.evaluate.losses import LOSSES
from trt_mpq.sensitivity import SensitivityInputs, SensitivityMetric
from trt_mpq.sensitivity.dependency import InterLayerDependency
from trt_mpq.sensitivity.hessian import HessianTrace
from trt_mpq.sensitivity.lowering import Growth, Lowered
from trt_mpq.sensitivity.noise import GaussianNoise
from trt_mpq.sensitivity.output_sqnr import OutputSqnr
from trt_mpq.sensitivity.task_loss import TaskLoss
from trt_mpq.types import Precision

SIZES = (6, 16, 16, 16, 16, 5)
LABELS = np.random.default_rng(4).integers(0, 5, 24)
INT4 = Precision.INT4


def half(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float16).astype(np.float32)


class ByHand:
    """MatMuls with tanh between them: FP32 products, FP16 tanh, and quantized products that write FP16."""

    def __init__(self) -> None:
        self.proto = smooth_mlp(SIZES)
        self.x = sample_input(self.proto, 24)["input"]
        self.weights = [onnx.numpy_helper.to_array(tensor) for tensor in self.proto.graph.initializer]
        self.amax = [float(np.abs(x).max()) for x in self._exact_inputs()]

    def inputs(self, **settings: object) -> SensitivityInputs:
        return inputs_for(self.proto, {"input": self.x}, LABELS, **settings)

    def outputs(self, lowered: Collection[str], precision: Precision) -> np.ndarray:
        x = self.x
        for number, (weight, amax) in enumerate(zip(self.weights, self.amax, strict=True), start=1):
            if f"fc{number}" in lowered:
                scales = np.abs(weight).max(axis=0, keepdims=True)
                x, weight = rounded(half(x), np.float64(amax), precision), rounded(weight, scales, precision)
            y = (x.astype(np.float64) @ weight).astype(np.float32)
            y = half(y) if f"fc{number}" in lowered else y
            x = half(np.tanh(half(y))) if number < len(self.weights) else y
        return x.astype(np.float64)

    def cross_entropy(self, lowered: Collection[str], precision: Precision) -> float:
        scores = self.outputs(lowered, precision)
        chosen = scores[np.arange(len(LABELS)), LABELS]
        return float(np.mean(np.log(np.exp(scores).sum(axis=1)) - chosen))

    def growth(self, lowered: Collection[str], precision: Precision) -> float:
        return self.cross_entropy(lowered, precision) - self.cross_entropy((), precision)

    def _exact_inputs(self) -> list[np.ndarray]:
        inputs = [self.x]
        for weight in self.weights[:-1]:
            inputs.append(np.tanh(inputs[-1] @ weight))
        return inputs


@pytest.fixture(scope="module")
def network() -> ByHand:
    return ByHand()


@pytest.mark.parametrize("precision", QUANTIZED)
def test_task_loss_is_what_the_hand_made_network_loses(network: ByHand, precision: Precision) -> None:
    scores = TaskLoss().rank(network.inputs(loss=LOSSES["cross-entropy"])).scores[precision]
    for group, score in scores.items():
        assert score == pytest.approx(network.growth([group], precision), rel=1e-2, abs=2e-5)


@pytest.mark.parametrize("precision", QUANTIZED)
def test_output_sqnr_is_noise_over_signal_whatever_the_loss(network: ByHand, precision: Precision) -> None:
    scores = OutputSqnr().rank(network.inputs(loss=LOSSES["kl"])).scores[precision]
    clean = network.outputs((), precision)
    for group, score in scores.items():
        noise = network.outputs([group], precision) - clean
        assert score == pytest.approx(np.mean(np.sum(noise**2, axis=1) / np.sum(clean**2, axis=1)), rel=1e-2)


def test_each_metric_counts_what_it_runs(network: ByHand) -> None:
    given, asked = network.inputs(candidates=(INT4,)), list[Lowered]()

    def here(
        initializer: Callable[[SensitivityInputs], Callable[[Lowered], Growth]],
    ) -> Callable[[Sequence[Lowered]], Iterator[Growth]]:
        work = initializer(given)

        def many(parts: Sequence[Lowered]) -> Iterator[Growth]:
            asked.extend(parts)
            return map(work, parts)

        return many

    def share(part: Lowered) -> float:
        first = min(group.index for group in given.groups if group.id in part[0])
        return sum(g.flops for g in given.groups if g.index >= first) / sum(g.flops for g in given.groups)

    for metric, sets in (
        (TaskLoss(), 5),
        (InterLayerDependency(rounds=5), 5 + (1 + 4) + (1 + 3) + (1 + 2) + (1 + 1)),
        (InterLayerDependency(rounds=2), 5 + (1 + 2)),
        (InterLayerDependency(rounds=9), 5 + (1 + 4) + (1 + 3) + (1 + 2) + (1 + 1)),
    ):
        asked.clear()
        passes = metric.rank(changed(given, distribute=here)).forward_passes
        assert len(asked) == sets
        assert passes == pytest.approx(24 * (2 + sum(map(share, asked))))


def test_as_many_rounds_as_groups_are_the_greedy_order(network: ByHand) -> None:
    """Brute force: every subset of the groups, quantized by hand."""
    names = [f"fc{number}" for number in range(1, len(SIZES))]
    growth = {
        frozenset(subset): network.growth(subset, INT4)
        for size in range(1, len(names) + 1)
        for subset in combinations(names, size)
    }
    chosen: list[str] = []
    while len(chosen) < len(names):
        chosen.append(min(set(names) - {*chosen}, key=lambda name: growth[frozenset([*chosen, name])]))
    ranking = InterLayerDependency(rounds=len(names)).rank(
        network.inputs(loss=LOSSES["cross-entropy"], candidates=(INT4,))
    )
    assert ranking.order(INT4) == tuple(chosen)
    highest = -math.inf
    for count, name in enumerate(chosen, start=1):
        highest = max(highest, growth[frozenset(chosen[:count])])
        assert ranking.scores[INT4][name] == pytest.approx(highest, rel=1e-2)
        alone = growth[frozenset(chosen[:count])] - growth.get(frozenset(chosen[: count - 1]), 0.0)
        assert ranking.harms[INT4][name] == pytest.approx(alone, rel=2e-2, abs=2e-3), "what it adds to those before it"


def test_scores_increase_in_the_order_of_choice(network: ByHand) -> None:
    for rounds in (1, 2, 3, 5):
        ranking = InterLayerDependency(rounds).rank(network.inputs(loss=LOSSES["cross-entropy"]))
        for precision in QUANTIZED:
            scores = [ranking.scores[precision][group] for group in ranking.order(precision)]
            assert all(lower < higher for lower, higher in pairwise(scores))


def test_one_round_is_the_order_of_task_loss(network: ByHand) -> None:
    given = network.inputs(loss=LOSSES["cross-entropy"])
    alone, together = TaskLoss().rank(given), InterLayerDependency(rounds=1).rank(given)
    for precision in QUANTIZED:
        assert together.order(precision) == alone.order(precision)
        assert together.scores[precision] == pytest.approx(alone.scores[precision], rel=1e-12)


def test_rounds_are_at_least_one() -> None:
    with pytest.raises(SettingsError, match="at least one round"):
        InterLayerDependency(rounds=0)


class Broken:
    """A loss that is not a number where the outputs are not those of FP32."""

    name = "broken"

    def per_sample(
        self, outputs: dict[str, np.ndarray], labels: object, reference: dict[str, np.ndarray]
    ) -> np.ndarray:
        (ours,), (theirs,) = outputs.values(), reference.values()
        return np.where((ours == theirs).all(axis=1), 0.0, np.nan)


def test_a_loss_that_is_no_number_is_ranked_last(network: ByHand) -> None:
    ranking = TaskLoss().rank(network.inputs(loss=Broken(), candidates=(INT4,)))
    assert set(ranking.scores[INT4].values()) == {math.inf}


@pytest.mark.parametrize(("outputs", "enough"), [(2, 256), (100, 82), (1024, 32)])
def test_output_sqnr_takes_fewer_samples_the_more_outputs_there_are(outputs: int, enough: int) -> None:
    values = np.random.default_rng(1).standard_normal((300, 6)).astype(np.float32)
    inputs = inputs_for(smooth_mlp((6, 8, outputs)), {"input": values}, batch=50)
    own = OutputSqnr().rank(changed(inputs, sample_limit=None))
    assert own == OutputSqnr().rank(changed(inputs, sample_limit=enough))
    assert own != OutputSqnr().rank(changed(inputs, sample_limit=enough + 1)), "what is asked for is done"


@pytest.mark.parametrize(
    "metric", [GaussianNoise(), HessianTrace(trials=2, estimator="forward"), TaskLoss()], ids=lambda m: m.name
)
def test_padded_sentences_are_cut_and_the_batch_does_not_matter(metric: SensitivityMetric) -> None:
    prepared = prepare(sentence_encoder())
    samples = sentences(prepared, np.arange(20), 1, "mask")
    given = SensitivityInputs(
        network=prepared.network(samples), candidates=(INT4,),
        samples=samples, sample_limit=20, loss=LOSSES["mse"], runtime=RUNTIME, batch=6, seed=0,
    )  # fmt: skip
    lengths = {chunk.feeds["ids"].shape[1] for chunk in given.chunks(16)}
    assert lengths == set(samples.padding.lengths)
    scores = [metric.rank(changed(given, batch=batch)).scores[INT4] for batch in (6, 1, 20)]
    for other in scores[1:]:
        assert other == pytest.approx(scores[0], rel=0.02)
