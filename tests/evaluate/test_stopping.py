"""Which evaluations may stop early, and by which test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.networks import mlp
from tests.prepared import normal, prepare
from trt_mpq.evaluate.metrics import TaskMetric, metric_from_name
from trt_mpq.evaluate.metrics.user import user_metric
from trt_mpq.evaluate.sequential import BettingTest, BootstrapTest
from trt_mpq.evaluate.stopping import paired_test, schedule_for
from trt_mpq.types import TensorSpec

CLASSES = (TensorSpec("y", "float32", ("batch", 7)),)
POSITIONS = (TensorSpec("y", "float32", ("batch", "seq", 7)),)
SPANS = tuple(TensorSpec(name, "float32", ("batch", "seq")) for name in ("start", "end"))
VALUES = (TensorSpec("y", "float32", ("batch", 1)),)
BY_BETTING = [
    ("top1", CLASSES), ("top5", CLASSES), ("accuracy", CLASSES), ("exact-match", SPANS), ("f1", SPANS),
    ("agreement", CLASSES), ("cosine", CLASSES), ("kl", CLASSES), ("sqnr", CLASSES),
]  # fmt: skip
BY_BOOTSTRAP = [("spearman", VALUES), ("pearson", VALUES), ("accuracy", POSITIONS), ("perplexity", CLASSES)]
USERS = user_metric("m:f", len)


@pytest.fixture(scope="module")
def samples():
    return prepare(mlp()).samples(normal(600, 32))


def named(name: str, outputs: tuple[TensorSpec, ...]) -> TaskMetric:
    return metric_from_name(name, has_labels=True, outputs=outputs)


@pytest.mark.parametrize(
    ("name", "outputs", "kind"),
    [*((*case, BettingTest) for case in BY_BETTING), *((*case, BootstrapTest) for case in BY_BOOTSTRAP)],
)
def test_means_of_bounded_scores_are_tested_by_betting_and_others_by_bootstrap(samples, name, outputs, kind):
    metric = named(name, outputs)
    schedule = schedule_for(metric, samples, 32, 0.999, 0)
    assert isinstance(paired_test(metric, schedule, np.ones((600, 2)), 0.9, 0.999), kind)


@pytest.mark.parametrize(("metric", "confidence"), [(USERS, 0.999), (named("top1", CLASSES), 1.0)])
def test_some_evaluations_never_stop(samples, metric, confidence):
    schedule = schedule_for(metric, samples, 32, confidence, 0)
    assert (schedule.order, schedule.ends) == (None, (600,))
    assert paired_test(metric, schedule, np.ones(600), 0.9, confidence) is None


def test_few_samples_are_all_run(samples):
    metric = named("top1", CLASSES)
    schedule = schedule_for(metric, samples.take(120), 32, 0.999, 0)
    assert schedule.looks == ()
    assert paired_test(metric, schedule, np.ones(120), 0.9, 0.999) is None


def test_the_baseline_is_drawn_like_the_plan(samples):
    metric = named("top1", CLASSES)
    schedule = schedule_for(metric, samples, 32, 0.999, 0)
    test = paired_test(metric, schedule, np.arange(600.0), 0.9, 0.999)
    assert isinstance(test, BettingTest)
    np.testing.assert_array_equal(test.baseline, schedule.order)
    assert (test.bounds, test.alpha) == ((0.0, 1.0), pytest.approx(0.001))


def test_full_batches_run_but_at_the_end(samples):
    for rows, metric in ((1, named("top1", CLASSES)), (2, named("spearman", VALUES))):
        pairs = replace(samples, rows=rows, count=600 // rows, labels=None)
        looks = schedule_for(metric, pairs, 32, 0.999, 0).looks
        assert looks
        assert all(look % (32 // rows) == 0 for look in looks)


@pytest.mark.parametrize(("name", "outputs"), BY_BETTING)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_scores_of_samples_are_within_the_bounds_that_betting_relies_on(name, outputs, scale):
    generator = np.random.default_rng(0)
    metric = named(name, outputs)
    shapes = {spec.name: (200, 7) for spec in outputs}
    model, fp32 = (
        {name: (scale * generator.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}
        for _ in range(2)
    )
    spans = np.sort(generator.integers(0, 7, (200, 2)), axis=1)
    labels = spans if outputs is SPANS else generator.integers(0, 7, 200)
    accumulator = metric.accumulator()
    accumulator.add(model, labels, fp32)
    numbers = accumulator.numbers
    assert metric.bounds[0] <= numbers.min() <= numbers.max() <= metric.bounds[1]
    assert metric.statistic(numbers) == accumulator.result().value
