"""Accuracy and perplexity, of samples and of positions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_mpq.errors import MetricError
from trt_mpq.evaluate.metrics import metric_from_name
from trt_mpq.types import Score, TensorSpec

LOGITS = (TensorSpec("logits", "float32", ("batch", 5)),)
TOKENS = (TensorSpec("logits", "float32", ("batch", "seq", 5)),)


def score(
    name: str,
    logits: np.ndarray,
    labels: np.ndarray | None,
    outputs: tuple[TensorSpec, ...] = TOKENS,
    cuts: Sequence[int] = (),
) -> Score:
    accumulator = metric_from_name(name, has_labels=True, outputs=outputs).accumulator()
    for start, end in itertools.pairwise([0, *sorted(cuts), len(logits)]):
        accumulator.add({"logits": logits[start:end]}, None if labels is None else labels[start:end], None)
    return accumulator.result()


def tokens(samples: int = 8, positions: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 5, (samples, positions))
    labels[generator.random(labels.shape) < 0.3] = -100
    return generator.normal(size=(samples, positions, 5)).astype(np.float32), labels


def test_accuracy_of_samples_is_top1() -> None:
    logits = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    labels = np.arange(40) % 5
    assert score("accuracy", logits, labels, LOGITS) == score("top1", logits, labels, LOGITS)


def test_accuracy_of_positions_counts_those_that_are_labelled() -> None:
    logits, labels = tokens()
    right = [int(np.argmax(logits[i]) == labels[i]) for i in np.ndindex(labels.shape) if labels[i] != -100]
    found = score("accuracy", logits, labels)
    assert found.value == pytest.approx(sum(right) / len(right))
    assert (found.samples, found.stderr is not None) == (8, True)


def test_perplexity_is_torchs_cross_entropy() -> None:
    torch = pytest.importorskip("torch")
    logits, labels = tokens()
    loss = torch.nn.functional.cross_entropy(
        torch.tensor(logits).double().flatten(0, 1), torch.tensor(labels).flatten()
    )
    assert score("perplexity", logits, labels).value == pytest.approx(1 / math.exp(float(loss)))


def test_perplexity_of_a_guess_is_the_number_of_classes() -> None:
    assert 1 / score("perplexity", np.zeros((3, 4, 5), np.float32), np.ones((3, 4), int)).value == pytest.approx(5.0)
    assert 1 / score("perplexity", np.zeros((3, 5), np.float32), np.ones(3, int), LOGITS).value == pytest.approx(5.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_wrong(bad: float) -> None:
    logits, labels = tokens()
    labels[0, 0], logits[0, 0] = 1, bad
    assert score("perplexity", logits, labels).value == 0.0
    clean = labels.copy()
    clean[0, 0] = -100
    if np.isnan(bad):
        assert score("accuracy", logits, labels).value < score("accuracy", logits, clean).value


@pytest.mark.parametrize("name", ["accuracy", "perplexity"])
@given(cuts=st.lists(st.integers(1, 7), max_size=4, unique=True))
def test_the_batches_change_nothing(name: str, cuts: list[int]) -> None:
    logits, labels = tokens()
    assert score(name, logits, labels, cuts=cuts).value == pytest.approx(score(name, logits, labels).value, rel=1e-12)


@pytest.mark.parametrize("name", ["accuracy", "perplexity"])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, r"one integer class label per position, \[2, 3\], found none"),
        (np.zeros(2, int), r"found int64 of shape \(2,\)"),
        (np.zeros((2, 3)), "found float64 of shape"),
        (np.full((2, 3), 5), "labels run from 5 to 5 but the model has the classes 0 to 4"),
        (np.array([[0, 1, 2], [-100, -1, 3]]), "labels run from -1 to 3"),
        (np.full((2, 3), -100), "has nothing to score: every label is -100"),
    ],
)
def test_labels_that_do_not_fit_the_positions_are_refused(name: str, labels: np.ndarray, message: str) -> None:
    with pytest.raises(MetricError, match=f"metric {name}.*{message}") as error:
        score(name, np.zeros((2, 3, 5), np.float32), labels)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["accuracy", "perplexity"])
@pytest.mark.parametrize("shape", [("batch",), ("batch", 1)])
def test_outputs_without_classes_are_refused(name: str, shape: tuple[int | str, ...]) -> None:
    with pytest.raises(MetricError, match=f"metric {name} compares class scores"):
        metric_from_name(name, has_labels=True, outputs=(TensorSpec("y", "float32", shape),))
