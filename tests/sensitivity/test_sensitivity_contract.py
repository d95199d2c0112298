"""What every sensitivity metric promises."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import replace as changed

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.networks import decoder, depthwise_cnn, inception, residual_cnn, sample_input
from tests.sensitivity.examples import QUANTIZED, fix_batch, inputs_for, specs_of, with_network
from trt_mpq.errors import SettingsError
from trt_mpq.evaluate.losses import LOSSES, Loss
from trt_mpq.sensitivity import METRICS, SensitivityInputs, SensitivityMetric, metric_from_name
from trt_mpq.sensitivity.dependency import InterLayerDependency
from trt_mpq.sensitivity.fisher import FisherError
from trt_mpq.sensitivity.hessian import HessianTrace
from trt_mpq.sensitivity.noise import GaussianNoise
from trt_mpq.sensitivity.output_difference import OutputDifference
from trt_mpq.sensitivity.output_sqnr import OutputSqnr
from trt_mpq.sensitivity.quantization_error import QuantizationError
from trt_mpq.sensitivity.random_order import RandomOrder
from trt_mpq.sensitivity.task_loss import TaskLoss
from trt_mpq.types import Grouping, Precision, Ranking

MEASURED: list[SensitivityMetric] = [
    QuantizationError(),
    GaussianNoise(),
    HessianTrace(trials=2, estimator="forward"),
    HessianTrace(trials=2, estimator="autograd"),
    FisherError(),
    OutputSqnr(),
    OutputDifference(),
    TaskLoss(),
    InterLayerDependency(rounds=2),
]
EVERY = [*MEASURED, RandomOrder()]
DRAWN = ("noise", "hessian", "fisher", "random")
"""Those that draw random numbers: fisher because of the loss here."""


def label(metric: SensitivityMetric) -> str:
    return f"{metric.name}-{metric.estimator}" if isinstance(metric, HessianTrace) else metric.name


def usable(metric: SensitivityMetric) -> SensitivityMetric:
    if label(metric) in ("hessian-autograd", "fisher"):
        pytest.importorskip("torch").set_num_threads(1)
    return metric


def close(one: Ranking, other: Ranking, rel: float = 1e-3) -> bool:
    largest = {p: max(map(abs, scores.values())) for p, scores in one.scores.items()}
    return all(other.scores[p] == pytest.approx(s, rel=rel, abs=rel * largest[p]) for p, s in one.scores.items())


@pytest.fixture(scope="module")
def inputs() -> SensitivityInputs:
    proto = residual_cnn(batch_norm=False)
    labels = np.random.default_rng(2).integers(0, 10, 13)
    return inputs_for(proto, sample_input(proto, 13), labels, loss=LOSSES["kl"], batch=5)


@pytest.mark.parametrize("metric", EVERY, ids=label)
def test_the_seed_decides_everything(metric: SensitivityMetric, inputs: SensitivityInputs) -> None:
    first, again = usable(metric).rank(inputs), metric.rank(inputs)
    assert first == again
    assert (first.metric, first.seed) == (metric.name, inputs.seed)
    other = metric.rank(changed(inputs, seed=1))
    assert (other.scores == first.scores) is (metric.name not in DRAWN)


@pytest.mark.parametrize("metric", EVERY, ids=label)
def test_every_group_is_scored_where_it_is_allowed(metric: SensitivityMetric, inputs: SensitivityInputs) -> None:
    stem, *rest = inputs.network.grouping.groups
    stem = changed(stem, excluded={Precision.FP8: "too few channels", Precision.FP16: "overflow"})
    none = changed(rest[-1], excluded=dict.fromkeys(QUANTIZED, "not quantized"))
    limited = with_network(inputs, grouping=Grouping((stem, *rest[:-1], none), (), ()))
    ranking = usable(metric).rank(limited)
    everyone = [group.id for group in limited.network.grouping.groups]
    assert list(ranking.groups) == everyone
    assert list(ranking.scores) == list(QUANTIZED)
    assert list(ranking.scores[Precision.INT8]) == everyone[:-1]
    assert list(ranking.scores[Precision.FP8]) == everyone[1:-1]
    assert all(math.isfinite(score) for scores in ranking.scores.values() for score in scores.values())
    if metric.name not in ("quantization-error", "fisher", "random"):  # a group without candidates costs nothing
        assert ranking.forward_passes < metric.rank(inputs).forward_passes


@pytest.mark.parametrize("metric", EVERY, ids=label)
def test_the_batch_size_does_not_matter(metric: SensitivityMetric, inputs: SensitivityInputs) -> None:
    by_five = usable(metric).rank(inputs)
    by_thirteen = metric.rank(changed(inputs, batch=13))
    # A second difference divides the float32 rounding of the outputs by a small step squared.
    assert close(by_five, by_thirteen, rel=0.02 if label(metric) == "hessian-forward" else 1e-3)
    assert by_five.forward_passes == by_thirteen.forward_passes


@pytest.mark.parametrize("metric", EVERY, ids=label)
def test_the_sample_limit_is_kept(metric: SensitivityMetric, inputs: SensitivityInputs) -> None:
    limited = usable(metric).rank(changed(inputs, sample_limit=6))
    alone = metric.rank(changed(inputs, samples=inputs.samples.take(6)))
    assert limited == alone


@pytest.mark.parametrize("metric", EVERY, ids=label)
def test_a_fixed_batch_dimension_is_served(metric: SensitivityMetric) -> None:
    proto = depthwise_cnn()
    free = inputs_for(proto, sample_input(proto, 10))
    graph = ir.from_proto(onnx.shape_inference.infer_shapes(fix_batch(proto, 4)))
    fixed = changed(with_network(free, graph=graph), samples=changed(free.samples, inputs=specs_of(graph)))
    tolerance = 0.02 if label(metric) == "hessian-forward" else 1e-3
    assert close(usable(metric).rank(free), metric.rank(fixed), rel=tolerance)


@pytest.mark.parametrize("metric", EVERY, ids=label)
def test_progress_ends_at_the_total(metric: SensitivityMetric, inputs: SensitivityInputs) -> None:
    calls: list[tuple[int, int]] = []
    usable(metric).rank(inputs, lambda done, total: calls.append((done, total)))
    if metric.name != "random":
        assert len({total for _, total in calls}) == 1
        assert [done for done, _ in calls] == sorted({done for done, _ in calls})
        assert calls[-1][0] == calls[-1][1]


@pytest.mark.parametrize("metric", MEASURED, ids=label)
@pytest.mark.parametrize("build", [residual_cnn, depthwise_cnn, inception], ids=lambda build: build.__name__)
def test_four_bits_hurt_more_than_eight(metric: SensitivityMetric, build: Callable[..., onnx.ModelProto]) -> None:
    proto = build()
    inputs = inputs_for(proto, sample_input(proto, 12))
    scores = usable(metric).rank(inputs).scores
    sums = {precision: sum(values.values()) for precision, values in scores.items()}
    assert 0 < 5 * sums[Precision.INT8] < sums[Precision.INT4]
    if label(metric) != "hessian-forward":  # kinks of Relu can bend a second difference down
        assert all(scores[Precision.INT4][group] > score for group, score in scores[Precision.INT8].items())


@pytest.mark.parametrize("metric", EVERY, ids=label)
@pytest.mark.parametrize("loss", [LOSSES["cross-entropy"], LOSSES["mse"]], ids=lambda loss: loss.name)
def test_every_loss_is_served(metric: SensitivityMetric, loss: Loss, inputs: SensitivityInputs) -> None:
    scores = usable(metric).rank(changed(inputs, loss=loss)).scores[Precision.INT4]
    assert len(set(scores.values())) == len(scores)


@pytest.mark.parametrize("metric", MEASURED, ids=label)
def test_images_out_are_served(metric: SensitivityMetric) -> None:
    proto = decoder()
    inputs = inputs_for(proto, sample_input(proto, 4), loss=LOSSES["mse"])
    assert min(usable(metric).rank(inputs).scores[Precision.INT4].values()) > 0


def test_random_permutes_without_running_anything(inputs: SensitivityInputs) -> None:
    ranking = RandomOrder().rank(inputs)
    count = len(inputs.network.grouping.groups)
    assert sorted(ranking.scores[Precision.INT8].values()) == list(range(count))
    assert ranking.forward_passes == 0
    assert ranking.scores[Precision.INT8] == ranking.scores[Precision.FP8]
    orders = {RandomOrder().rank(changed(inputs, seed=seed)).order(Precision.INT8) for seed in range(10)}
    assert len(orders) > 7


@pytest.mark.parametrize("name", [*{metric.name: None for metric in EVERY}])
def test_metrics_are_found_by_name(name: str) -> None:
    assert metric_from_name(name).name == name
    assert name in METRICS


def test_an_unknown_metric_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="'hesian': choose one of quantization-error, noise, hessian, fisher, "):
        metric_from_name("hesian")


@pytest.mark.parametrize("metric", MEASURED, ids=label)
def test_parts_may_be_done_elsewhere(metric: SensitivityMetric, inputs: SensitivityInputs) -> None:
    """By somebody who gets all in pickled form, and made the inputs anew."""
    metric = usable(metric)

    def elsewhere(initializer):
        work = pickle.loads(pickle.dumps(initializer))(inputs)
        return lambda parts: (pickle.loads(pickle.dumps(work(pickle.loads(pickle.dumps(part))))) for part in parts)

    assert metric.rank(changed(inputs, distribute=elsewhere)) == metric.rank(inputs)
