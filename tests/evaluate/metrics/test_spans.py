"""Question answering against a search over all spans and sets of positions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trt_mpq.errors import MetricError
from trt_mpq.evaluate.metrics import metric_from_name
from trt_mpq.evaluate.metrics.spans import best_spans
from trt_mpq.types import Score, TensorSpec

OUTPUTS = (TensorSpec("start_logits", "float32", ("b", "s")), TensorSpec("end_logits", "float32", ("b", "s")))


def pointing_at(spans: list[tuple[int, int]], positions: int = 12) -> dict[str, np.ndarray]:
    start, end = np.zeros((2, len(spans), positions), np.float32)
    for row, (first, last) in enumerate(spans):
        start[row, first] = end[row, last] = 5.0
    return {"start_logits": start, "end_logits": end}


def score(name: str, found: list[tuple[int, int]], golds: object, outputs: tuple[TensorSpec, ...] = OUTPUTS) -> Score:
    accumulator = metric_from_name(name, has_labels=True, outputs=outputs).accumulator()
    accumulator.add(pointing_at(found), None if golds is None else np.array(golds), None)
    return accumulator.result()


def test_scores_by_hand() -> None:
    found = [(2, 4), (2, 4), (2, 4), (0, 0)]
    golds = [[2, 4], [3, 6], [5, 6], [0, 0]]
    # Second: 2 of 3 found are right, 2 of 4 right are found: 2 * 2 / (3 + 4).
    assert score("f1", found, golds).value == pytest.approx((1 + 4 / 7 + 0 + 1) / 4)
    assert score("exact-match", found, golds).value == 0.5


def test_the_best_of_several_golds_counts() -> None:
    golds = [[[7, 8], [2, 4], [-1, -1]], [[3, 5], [-100, -100], [9, 9]]]
    assert score("exact-match", [(2, 4), (2, 4)], golds).value == 0.5
    assert score("f1", [(2, 4), (2, 4)], golds).value == pytest.approx((1 + 4 / 6) / 2)


@given(
    hnp.arrays(np.int64, (3, 2), elements=st.integers(0, 9)).map(lambda a: np.sort(a, axis=1)),
    hnp.arrays(np.int64, (3, 2, 2), elements=st.integers(0, 9)).map(lambda a: np.sort(a, axis=2)),
)
def test_f1_is_precision_and_recall_of_sets(found: np.ndarray, golds: np.ndarray) -> None:
    def of_sets(own: np.ndarray, gold: np.ndarray) -> float:
        a, b = (set(range(s[0], s[1] + 1)) for s in (own, gold))
        precision, recall = len(a & b) / len(a), len(a & b) / len(b)
        return 2 * precision * recall / (precision + recall) if precision else 0.0

    expected = [max(of_sets(own, gold) for gold in given) for own, given in zip(found, golds, strict=True)]
    assert score("f1", [tuple(row) for row in found], golds).value == pytest.approx(np.mean(expected))


@given(hnp.arrays(np.float32, (2, 2, 34), elements=st.integers(-3, 3)))
def test_the_best_span_is_that_of_a_search_over_all(scores: np.ndarray) -> None:
    start, end = scores
    spans = best_spans(start, end)
    for row in range(2):
        possible = [(a, b) for a, b in itertools.product(range(34), repeat=2) if 0 <= b - a < 30]
        best = max(possible, key=lambda s: (start[row, s[0]] + end[row, s[1]], s[0] - s[1], -s[0]))
        assert tuple(spans[row]) == best


def test_nan_points_nowhere() -> None:
    accumulator = metric_from_name("f1", has_labels=True, outputs=OUTPUTS).accumulator()
    outputs = pointing_at([(1, 2), (1, 2)])
    outputs["end_logits"][1, 7] = np.nan
    accumulator.add(outputs, np.array([[1, 2], [1, 2]]), None)
    assert accumulator.result().value == 0.5


@pytest.mark.parametrize("names", [("start_logits", "end_logits"), ("end_logits", "start_logits")])
def test_names_tell_start_from_end(names: tuple[str, str]) -> None:
    outputs = tuple(TensorSpec(name, "float32", ("b", "s")) for name in names)
    assert score("exact-match", [(2, 4)], [[2, 4]], outputs).value == 1.0


def test_it_is_a_mean_over_samples() -> None:
    found = score("exact-match", [(2, 4), (2, 4), (1, 1), (1, 1)], [[2, 4], [2, 5], [1, 1], [1, 1]])
    assert found.stderr == pytest.approx(np.std([1, 0, 1, 1], ddof=1) / 2)


@pytest.mark.parametrize(
    ("golds", "message"),
    [
        (None, r"integer labels \[1, 2\] or \[1, golds, 2\], found none"),
        ([[2.0, 4.0]], "found float64"),
        ([2], r"found int64 of shape \(1,\)"),
        ([[2, 4, 5]], r"found int64 of shape \(1, 3\)"),
        ([[4, 2]], "needs a gold answer from a first to a last token within the 12 positions"),
        ([[4, 12]], "within the 12 positions"),
        ([[-1, -1]], "needs a gold answer"),
    ],
)
def test_labels_that_are_no_spans_are_refused(golds: object, message: str) -> None:
    with pytest.raises(MetricError, match=message) as error:
        score("f1", [(1, 2)], golds)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "outputs", [OUTPUTS[:1], (*OUTPUTS, *OUTPUTS), (TensorSpec("y", "float32", ("b", "s", 2)),) * 2]
)
def test_other_outputs_are_refused(outputs: tuple[TensorSpec, ...]) -> None:
    with pytest.raises(MetricError, match="metric f1 needs two outputs"):
        metric_from_name("f1", has_labels=True, outputs=outputs)
