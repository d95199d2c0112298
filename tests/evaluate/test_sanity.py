"""Data that cannot be what was meant."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from trt_mpq.dataset.samples import Samples, samples_from_arrays
from trt_mpq.evaluate.metrics import metric_from_name
from trt_mpq.evaluate.sanity import data_faults, output_faults, score_faults
from trt_mpq.types import Score, TensorSpec

INPUTS = (TensorSpec("x", "float32", ("N", 8)),)
OUTPUTS = (TensorSpec("y", "float32", ("N", 4)),)
TOP1 = metric_from_name("top1", has_labels=True, outputs=OUTPUTS)
RANDOM = np.random.default_rng(0)


def samples(values: NDArray[np.float32], labels: NDArray[np.int64] | None = None) -> Samples:
    return samples_from_arrays({"x": values.astype(np.float32)}, INPUTS, labels)


def normal(count: int) -> NDArray[np.float64]:
    return RANDOM.normal(size=(count, 8))


@pytest.mark.parametrize(("score", "faulty"), [(0.25, True), (0.27, True), (0.6, False)])
def test_a_score_at_chance_is_named(score: float, faulty: bool) -> None:
    data = samples(normal(400), np.arange(400) % 4)
    found = list(score_faults(TOP1, Score(score, 0.0217, 400), data))
    assert bool(found) == faulty
    if faulty:
        assert "no better than always giving the most frequent answer (25.00 %): check preprocessing" in found[0]


def test_chance_is_the_most_frequent_label_s_share() -> None:
    data = samples(normal(100), (np.arange(100) >= 70).astype(np.int64))
    assert list(score_faults(TOP1, Score(0.72, 0.045, 100), data))


def test_one_label_alone_is_no_chance() -> None:
    assert not list(score_faults(TOP1, Score(1.0, 0.0, 100), samples(normal(100), np.zeros(100, np.int64))))


def test_no_correlation_is_named() -> None:
    metric = metric_from_name(
        "spearman", has_labels=True, outputs=(TensorSpec("y", "float32", ("N", 16)),), rows_per_sample=2
    )
    data = samples(normal(100), np.zeros(100, np.int64))
    assert "which is no correlation on 100 samples" in next(score_faults(metric, Score(0.1, 0.1, 100), data))
    assert not list(score_faults(metric, Score(0.8, 0.05, 100), data))


def test_outputs_that_do_not_depend_on_the_inputs_are_named() -> None:
    inputs, same = {"x": normal(4)}, np.tile(RANDOM.normal(size=(1, 3)), (4, 1))
    assert "FP32 gives the same outputs for 4 different samples" in next(output_faults(inputs, {"y": same}))
    assert not list(output_faults(inputs, {"y": same, "z": RANDOM.normal(size=(4, 2))}))
    assert not list(output_faults({"x": np.zeros((4, 8))}, {"y": same})), "so are the samples"


@pytest.mark.parametrize("change", [lambda x: x * 127 + 127, lambda x: x / 255, lambda x: x + 10])
def test_data_of_which_only_one_set_is_normalised_is_named(change) -> None:  # type: ignore[no-untyped-def]
    found = list(data_faults(samples(change(normal(200))), samples(normal(200))))
    assert len(found) == 1
    assert found[0].startswith("input x is ")
    assert found[0].endswith("check that both are normalised alike")


def test_two_draws_of_the_same_data_are_sound() -> None:
    assert not list(data_faults(samples(normal(8)), samples(normal(200))))


def test_samples_of_both_sets_are_counted() -> None:
    common = normal(10)
    held = np.concatenate([normal(20), common])
    (found,) = data_faults(samples(np.concatenate([common, normal(5)])), samples(held))
    assert found.startswith("10 of the first 30 evaluation samples are calibration samples too")
