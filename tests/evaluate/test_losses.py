"""Losses against formulas written out element by element."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trt_mpq.errors import DataError
from trt_mpq.evaluate.losses import LOSSES, Loss, loss_for

SCORES = arrays(np.float32, (4, 5), elements=st.floats(-50, 50, width=32))


def probabilities(row: np.ndarray) -> list[float]:
    powers = [math.exp(value) for value in row.tolist()]
    return [power / sum(powers) for power in powers]


@given(SCORES, st.lists(st.integers(0, 4), min_size=4, max_size=4))
def test_cross_entropy_is_minus_the_log_probability_of_the_label(scores: np.ndarray, labels: list[int]) -> None:
    losses = LOSSES["cross-entropy"].per_sample({"logits": scores}, np.array(labels, np.uint8), None)
    expected = [-math.log(probabilities(row)[label]) for row, label in zip(scores, labels, strict=True)]
    assert losses.dtype == np.float64
    np.testing.assert_allclose(losses, expected, rtol=1e-9, atol=1e-12)


def test_cross_entropy_survives_large_scores() -> None:
    losses = LOSSES["cross-entropy"].per_sample(
        {"y": np.array([[1e4, -1e4], [1e4, 1e4]], np.float32)}, np.array([1, 0]), None
    )
    np.testing.assert_allclose(losses, [2e4, math.log(2)])


def test_classification_losses_read_the_first_output() -> None:
    scores, other = np.array([[0.0, 1.0]], np.float32), np.array([[5.0, 0.0]], np.float32)
    both = {"logits": scores, "features": other}
    for loss in (LOSSES["cross-entropy"], LOSSES["kl"]):
        labels, reference = np.array([0]), {"logits": other}
        np.testing.assert_array_equal(
            loss.per_sample(both, labels, reference), loss.per_sample({"logits": scores}, labels, reference)
        )


@given(SCORES, SCORES)
def test_kl_is_the_divergence_from_the_reference(ours: np.ndarray, theirs: np.ndarray) -> None:
    losses = LOSSES["kl"].per_sample({"y": ours}, None, {"y": theirs})
    expected = [
        sum(p * (math.log(p) - math.log(q)) for p, q in zip(probabilities(b), probabilities(a), strict=True) if p > 0)
        for a, b in zip(ours, theirs, strict=True)
    ]
    np.testing.assert_allclose(losses, expected, rtol=1e-9, atol=1e-9)
    assert np.all(losses >= -1e-12)
    np.testing.assert_array_equal(LOSSES["kl"].per_sample({"y": ours}, None, {"y": ours}), np.zeros(4))


def test_mse_is_relative_to_the_reference_and_averages_outputs() -> None:
    ours = {"a": np.array([[1.0, 3.0], [0.5, 0.0]], np.float32), "b": np.array([[[2.0]], [[4.0]]], np.float32)}
    theirs = {"a": np.array([[1.0, 1.0], [0.0, 0.0]], np.float32), "b": np.array([[[4.0]], [[4.0]]], np.float32)}
    losses = LOSSES["mse"].per_sample(ours, None, theirs)
    # Sample 0: (4 / 2) / (2 / 2) = 2 and 4 / 16; sample 1: 0.25 / 2, not normalized, and 0.
    np.testing.assert_allclose(losses, [(2 + 0.25) / 2, 0.125 / 2])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "needs labels"),
        (np.array([0.0, 1.0]), "integer labels"),
        (np.array([0]), "2 integer labels"),
        (np.array([0, 3]), "0..2"),
        (np.array([-1, 0]), "0..2"),
    ],
)
def test_cross_entropy_refuses_labels_that_do_not_fit(labels: np.ndarray | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        LOSSES["cross-entropy"].per_sample({"y": np.zeros((2, 3), np.float32)}, labels, None)


@pytest.mark.parametrize("loss", [LOSSES["kl"], LOSSES["mse"]])
def test_losses_against_fp32_refuse_to_run_without_it(loss: Loss) -> None:
    with pytest.raises(DataError, match="FP32 outputs"):
        loss.per_sample({"y": np.zeros((2, 3), np.float32)}, None, None)


def test_cross_entropy_refuses_labels_of_another_shape_than_its_positions() -> None:
    with pytest.raises(DataError, match=r"integer labels of shape \(2, 3, 4\), got int64 of shape \(2,\)"):
        LOSSES["cross-entropy"].per_sample({"y": np.zeros((2, 3, 4, 4), np.float32)}, np.array([0, 1]), None)


@pytest.mark.parametrize("loss", [LOSSES["cross-entropy"], LOSSES["kl"]])
def test_classification_losses_refuse_single_numbers(loss: Loss) -> None:
    with pytest.raises(DataError, match=r"output 'y' has shape \(2,\); a classification loss needs"):
        loss.per_sample({"y": np.zeros(2, np.float32)}, np.array([0, 1]), {"y": np.zeros(2, np.float32)})


def test_a_loss_per_position_is_averaged_over_those_that_count() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    labels = np.array([[0, 1, 2, 3], [4, -100, 0, -100], [-100, -100, -100, -100]])
    expected = [
        np.mean(
            [-math.log(probabilities(row)[label]) for row, label in zip(rows, own, strict=True) if label >= 0] or [0]
        )
        for rows, own in zip(scores, labels.tolist(), strict=True)
    ]
    np.testing.assert_allclose(LOSSES["cross-entropy"].per_sample({"y": scores}, labels, None), expected, rtol=1e-9)


def test_kl_per_position_is_the_mean_of_that_of_the_positions() -> None:
    ours, theirs = np.random.default_rng(1).normal(size=(2, 3, 4, 5))
    rows = LOSSES["kl"].per_sample({"y": ours.reshape(12, 5)}, None, {"y": theirs.reshape(12, 5)})
    losses = LOSSES["kl"].per_sample({"y": ours}, None, {"y": theirs})
    np.testing.assert_allclose(losses, rows.reshape(3, 4).mean(axis=1), rtol=1e-12)


@given(arrays(np.float64, (2, 3, 6), elements=st.floats(-1, 1)))
def test_mse_of_unit_embeddings_is_twice_the_cosine_distance(values: np.ndarray) -> None:
    ours, theirs = values + np.eye(3, 6) * 9
    ours, theirs = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (ours, theirs))
    losses = LOSSES["mse"].per_sample({"y": ours}, None, {"y": theirs})
    np.testing.assert_allclose(losses, 2 * (1 - np.sum(ours * theirs, axis=1)), atol=1e-12)


@pytest.mark.parametrize(
    ("has_labels", "classification", "name"),
    [(True, True, "cross-entropy"), (False, True, "kl"), (True, False, "mse"), (False, False, "mse")],
)
def test_the_task_decides_the_loss(has_labels: bool, classification: bool, name: str) -> None:
    assert loss_for(has_labels=has_labels, classification=classification).name == name


def test_one_hot_labels_are_those_of_their_classes() -> None:
    scores = np.random.default_rng(0).standard_normal((6, 4))
    classes = np.array([0, 3, 1, 1, 2, 0])
    loss = LOSSES["cross-entropy"].per_sample
    for one_hot in (np.eye(4)[classes], np.eye(4, dtype=np.int64)[classes], np.eye(4, dtype=bool)[classes]):
        np.testing.assert_array_equal(loss({"y": scores}, one_hot, None), loss({"y": scores}, classes, None))
    with pytest.raises(DataError, match="needs 6 integer labels"):
        loss({"y": scores}, np.full((6, 4), 0.25), None)
