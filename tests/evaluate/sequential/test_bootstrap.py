"""The test by paired bootstrap, for scores that are no means."""

from __future__ import annotations

import numpy as np
import pytest

from trt_mpq.evaluate.metrics import metric_from_name
from trt_mpq.evaluate.metrics.corpus import ratio
from trt_mpq.evaluate.sequential import BootstrapTest
from trt_mpq.types import TensorSpec

N = 800
OUTPUTS = (TensorSpec("y", "float32", ("batch", 1)),)
correlation = metric_from_name("pearson", has_labels=True, outputs=OUTPUTS).statistic


def predictions(noise: float, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    gold = generator.normal(size=N)
    predicted = gold + 0.5 * generator.normal(size=N)
    noisy = predicted + noise * generator.normal(size=N)
    return np.stack([predicted, gold], axis=1), np.stack([noisy, gold], axis=1)


def the_test(baseline, required: float, looks=(100, 200, 400), statistic=correlation, alpha=0.01) -> BootstrapTest:
    return BootstrapTest(baseline, required, statistic, alpha, looks)


def test_the_error_of_a_mean_is_the_textbook_one_for_drawing_without_replacement():
    generator = np.random.default_rng(0)
    baseline = np.stack([generator.random(N), np.ones(N)], axis=1)
    plan = baseline + np.stack([generator.normal(size=N), np.zeros(N)], axis=1)
    estimate = the_test(baseline, 0.5, statistic=ratio).estimate(plan[:200])
    difference = (plan - baseline)[:200, 0]
    assert estimate.value == pytest.approx(baseline[:, 0].mean() + difference.mean())
    assert estimate.stderr == pytest.approx(difference.std(ddof=1) / 200**0.5 * (1 - 200 / N) ** 0.5, rel=0.1)
    assert estimate.samples == 200


@pytest.mark.parametrize(("required", "keeps"), [(0.5, True), (0.95, False)])
def test_clear_plans_are_decided_at_the_first_look(required, keeps):
    baseline, plan = predictions(0.1, np.random.default_rng(1))
    own = the_test(baseline, required)
    assert own.decide(plan[:100]) is keeps
    assert own.decide(plan[:150]) is None, "only the looks that were planned are paid for"


def test_a_plan_on_the_target_is_decided_wrongly_no_more_often_than_stated():
    generator = np.random.default_rng(2)
    baseline, plan = predictions(0.2, generator)
    required, rejected = correlation(plan), 0
    for _ in range(60):
        order = generator.permutation(N)
        own = the_test(baseline[order], required, alpha=0.05)
        verdicts = (own.decide(plan[order][:look]) for look in own.looks)
        rejected += next((verdict for verdict in verdicts if verdict is not None), None) is False
    assert rejected <= 8  # 60 x 0.05 and 3 standard deviations


def test_a_plan_that_hardly_differs_yet_is_not_decided():
    """Twenty pairs must differ before a bootstrap has anything to tell; identical ones would have no error at all."""
    baseline, _ = predictions(0.0, np.random.default_rng(3))
    plan = baseline.copy()
    plan[:19, 0] += 0.5
    assert the_test(baseline, 0.5).decide(baseline[:100]) is None
    assert the_test(baseline, 0.5).decide(plan[:100]) is None
    plan[19, 0] += 0.5
    assert the_test(baseline, 0.5).decide(plan[:100]) is True


def test_the_same_question_has_the_same_answer():
    baseline, plan = predictions(0.2, np.random.default_rng(4))
    own = the_test(baseline, 0.8)
    assert own.estimate(plan[:200]) == own.estimate(plan[:200])
