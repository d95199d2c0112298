"""Scores of all samples together, and their bootstrap."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from trt_mpq.evaluate.metrics.base import TaskMetric
from trt_mpq.evaluate.metrics.corpus import corpus_metric, ratio


def metric(statistic: Callable[[np.ndarray], float]) -> TaskMetric:
    return corpus_metric("x", lambda outputs, labels, reference: outputs["y"], statistic, lambda sums: None)


def bootstrap_error(values: np.ndarray, statistic: Callable[[np.ndarray], float]) -> float | None:
    accumulator = metric(statistic).accumulator()
    accumulator.add({"y": values}, None, None)
    return accumulator.result().stderr


def test_the_bootstrap_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=(500, 1))
    expected = values.std(ddof=1) / np.sqrt(500)
    assert bootstrap_error(values, lambda v: float(v.mean())) == pytest.approx(expected, rel=0.15)


def test_one_sample_has_no_error() -> None:
    assert bootstrap_error(np.ones((1, 2)), ratio) is None


def test_a_ratio_is_of_sums() -> None:
    assert ratio(np.array([[1.0, 2.0], [3.0, 6.0]])) == 0.5
    assert ratio(np.array([[0.0, 0.0]])) == 0.0


def test_samples_that_belong_together_widen_the_error() -> None:
    """Positions of a sample are right or wrong together: 50 samples of 20 positions are not 1000 independent ones."""
    right = np.random.default_rng(1).integers(0, 2, 50).astype(float)
    together = np.stack([20 * right, np.full(50, 20.0)], axis=1)
    error = bootstrap_error(together, ratio)
    assert error == pytest.approx(right.std(ddof=1) / np.sqrt(50), rel=0.15)


def test_batches_are_put_together() -> None:
    accumulator = metric(ratio).accumulator()
    accumulator.add({"y": np.array([[1.0, 1.0]])}, None, None)
    accumulator.add({"y": np.array([[0.0, 1.0], [0.0, 2.0]])}, None, None)
    assert accumulator.numbers is not None
    assert accumulator.numbers.tolist() == [[1, 1], [0, 1], [0, 2]]
    assert (accumulator.result().value, accumulator.result().samples) == (0.25, 3)
