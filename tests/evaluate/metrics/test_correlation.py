"""Correlations against hand-computed values, brute-force ranks and numpy's own coefficient."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trt_mpq.errors import MetricError
from trt_mpq.evaluate.metrics import metric_from_name
from trt_mpq.types import Score, TensorSpec

REGRESSION = (TensorSpec("y", "float32", ("batch", 1)),)
EMBEDDING = (TensorSpec("embedding", "float32", ("batch", 4)),)
VALUES = hnp.arrays(np.float64, st.integers(2, 30), elements=st.integers(-4, 4))


def score(
    name: str, output: np.ndarray, labels: np.ndarray | None, outputs: tuple[TensorSpec, ...] = REGRESSION
) -> Score:
    accumulator = metric_from_name(name, has_labels=True, outputs=outputs).accumulator()
    accumulator.add({outputs[0].name: output}, labels, None)
    return accumulator.result()


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    return statistic("pearson", a, b)


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    return statistic("spearman", a, b)


def statistic(name: str, a: np.ndarray, b: np.ndarray) -> float:
    metric = metric_from_name(name, has_labels=True, outputs=REGRESSION)
    assert metric.statistic is not None
    return metric.statistic(np.stack([a, b], axis=1))


@given(VALUES)
def test_scipy_s_ranks_count_smaller_values_and_half_of_the_equal_ones(values: np.ndarray) -> None:
    from scipy.stats import rankdata

    expected = [
        sum(other < own for other in values) + (sum(other == own for other in values) + 1) / 2 for own in values
    ]
    assert rankdata(values).tolist() == expected


@given(hnp.arrays(np.float64, st.integers(1, 200), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_scipy_s_ranks_are_the_mean_places_of_sorted_values_bit_for_bit(values: np.ndarray) -> None:
    from scipy.stats import rankdata

    _, position, counts = np.unique(values, return_inverse=True, return_counts=True)
    expected = (np.cumsum(counts) - (counts - 1) / 2)[position]
    assert rankdata(values).tobytes() == expected.tobytes()


def test_spearman_of_an_example_by_hand() -> None:
    # Ranks 1 2.5 2.5 4 5 and 2 1 3.5 3.5 5; less their mean 3 the products sum to 7.25, the squares to 9.5 each.
    a, b = np.array([10.0, 20, 20, 30, 99]), np.array([2.0, 1, 7, 7, 8])
    assert spearman(a, b) == pytest.approx(7.25 / 9.5)


def test_without_ties_spearman_is_the_formula_of_rank_differences() -> None:
    generator = np.random.default_rng(3)
    a, b = generator.permutation(20).astype(float), generator.permutation(20).astype(float)
    assert spearman(a, b) == pytest.approx(1 - 6 * np.sum((a - b) ** 2) / (20 * (20**2 - 1)))


@given(VALUES, st.data())
def test_pearson_is_that_of_numpy(a: np.ndarray, data: st.DataObject) -> None:
    b = data.draw(hnp.arrays(np.float64, len(a), elements=st.integers(-4, 4)))
    assume(len(set(a)) > 1 and len(set(b)) > 1)
    assert pearson(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-12)


@given(VALUES)
def test_monotone_predictions_correlate_fully(values: np.ndarray) -> None:
    assume(len(set(values)) > 1)
    assert spearman(np.exp(values), values) == pytest.approx(1.0)
    assert spearman(-values, values) == pytest.approx(-1.0)
    assert pearson(3 * values - 1, values) == pytest.approx(1.0)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_neither_large_nor_small_numbers_overflow(scale: float) -> None:
    assert pearson(np.array([1.0, 2, 4]) * scale, np.array([1.0, 2, 4])) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["spearman", "pearson"])
@pytest.mark.parametrize("bad", [[1.0, 1.0, 1.0], [1.0, np.nan, 2.0], [1.0, np.inf, 2.0]])
def test_predictions_that_are_constant_or_not_finite_score_zero(name: str, bad: list[float]) -> None:
    assert score(name, np.array(bad, np.float32)[:, None], np.array([1, 2, 3])).value == 0.0


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_predictions_are_the_output(shape: tuple[int, ...]) -> None:
    values, labels = np.array([3, 1, 2, 6, 5, 4], np.float32), np.arange(6)
    found = score("spearman", values.reshape(shape), labels)
    assert found.value == pytest.approx(spearman(values.astype(float), labels.astype(float)))
    assert found.samples == 6


def test_predictions_for_pairs_are_the_cosine_of_their_embeddings() -> None:
    pairs = np.random.default_rng(0).normal(size=(9, 2, 4)).astype(np.float32)
    pairs[4, 1] = 0.0
    cosines = [
        float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-30) for a, b in pairs.astype(np.float64)
    ]
    labels = np.random.default_rng(1).normal(size=9).astype(np.float32)
    found = score("pearson", pairs, labels, EMBEDDING).value
    assert found == pytest.approx(np.corrcoef(cosines, labels)[0, 1])


@pytest.mark.parametrize("shape", [(6, 4), (6, 3, 4), (6, 2, 1), (6, 2, 4, 4)])
def test_outputs_that_are_no_prediction_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(MetricError, match="needs one number per sample, or the embeddings of a pair") as error:
        score("spearman", np.zeros(shape, np.float32), np.arange(6), EMBEDDING)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("labels", [None, np.zeros((6, 2)), np.zeros(5), np.array(["a"] * 6), np.zeros((1, 6))])
def test_labels_that_are_no_gold_numbers_are_refused(labels: np.ndarray | None) -> None:
    with pytest.raises(MetricError, match="metric spearman needs one number per sample as label, found"):
        score("spearman", np.zeros((6, 1), np.float32), labels)


def test_equal_labels_have_no_correlation() -> None:
    with pytest.raises(MetricError, match="is not defined where all 4 labels are 2"):
        score("spearman", np.arange(4.0), np.full(4, 2))


def test_a_model_with_several_outputs_is_refused() -> None:
    with pytest.raises(MetricError, match=r"scores one output and the model has 2 \(y, embedding\)"):
        metric_from_name("pearson", has_labels=True, outputs=(*REGRESSION, *EMBEDDING))


def test_the_standard_error_is_that_of_theory() -> None:
    """For normal data the standard error of Pearson's coefficient is (1 - r^2) / sqrt(n - 1)."""
    generator = np.random.default_rng(5)
    a = generator.normal(size=2000)
    b = 0.8 * a + 0.6 * generator.normal(size=2000)
    found = score("pearson", a.astype(np.float32)[:, None], b)
    assert found.stderr == pytest.approx((1 - found.value**2) / np.sqrt(1999), rel=0.15)
    assert found == score("pearson", a.astype(np.float32)[:, None], b), "seeded"
