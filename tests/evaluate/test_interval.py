"""The interval of a loss, against what SciPy and simulation say."""

from __future__ import annotations

import numpy as np
import pytest

from trt_mpq.evaluate.interval import LossInterval, loss_interval
from trt_mpq.evaluate.metrics import metric_from_name
from trt_mpq.types import TensorSpec

OUTPUTS = (TensorSpec("y", "float32", ("N", 4)),)
TOP1 = metric_from_name("top1", has_labels=True, outputs=OUTPUTS)
PERPLEXITY = metric_from_name("perplexity", has_labels=True, outputs=OUTPUTS)


def answers(right: float, count: int, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(count) < right).astype(float)


def test_a_mean_has_the_normal_interval_of_the_paired_differences() -> None:
    from scipy import stats

    fp32, plan = answers(0.9, 400, 0), answers(0.88, 400, 1)
    found = loss_interval(TOP1, fp32, plan, seed=0)
    assert found is not None
    low, high = stats.norm.interval(0.95, (fp32 - plan).mean(), stats.sem(fp32 - plan))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_it_covers_the_true_loss_as_often_as_it_says() -> None:
    """The plan errs on 2 % of the samples that FP32 has right: 300 experiments of 500 samples."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(300):
        fp32 = (rng.random(500) < 0.9).astype(float)
        plan = fp32 * (rng.random(500) >= 0.02)
        found = loss_interval(TOP1, fp32, plan, seed=0)
        assert found is not None
        covered += found.low <= 0.9 * 0.02 <= found.high
    assert 0.90 <= covered / 300 <= 0.98


def test_where_no_sample_tells_the_models_apart_the_rule_of_three_bounds_the_loss() -> None:
    fp32 = answers(0.9, 300, 0)
    assert loss_interval(TOP1, fp32, fp32, seed=0) == LossInterval(0.0, -0.01, 0.01, 300)


def test_a_statistic_that_is_no_mean_has_the_bootstraps_interval() -> None:
    from scipy import stats

    rng = np.random.default_rng(0)
    losses = rng.exponential(1.0, 600)
    fp32 = np.stack([losses, np.ones(600)], axis=1)
    plan = np.stack([losses + rng.normal(0.05, 0.1, 600), np.ones(600)], axis=1)
    found = loss_interval(PERPLEXITY, fp32, plan, seed=0)
    assert found is not None
    paired = stats.bootstrap(
        (fp32[:, 0], plan[:, 0]), lambda a, b, axis: np.exp(-a.mean(axis)) - np.exp(-b.mean(axis)),
        paired=True, vectorized=True, method="basic", n_resamples=2000, random_state=0,
    ).confidence_interval  # fmt: skip
    assert (found.low, found.high) == pytest.approx((paired.low, paired.high), rel=0.15)
    assert found.low < found.loss < found.high


def test_one_sample_tells_nothing() -> None:
    assert loss_interval(TOP1, np.ones(1), np.ones(1), seed=0) is None


@pytest.mark.parametrize(("allowed", "needed"), [(0.01, 1600), (0.02, None), (0.03, None), (0.0, None)])
def test_samples_that_would_resolve_a_target(allowed: float, needed: int | None) -> None:
    """Half the width takes four times the samples."""
    assert LossInterval(0.0, -0.02, 0.02, 400).samples_to_resolve(allowed) == needed
