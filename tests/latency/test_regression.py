from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trt_mpq.latency.fitting import _non_negative_least_squares as non_negative_least_squares
from trt_mpq.latency.fitting import _robust_line as robust_line

values = st.floats(-10, 10).map(lambda x: round(x, 3))


@given(arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=values), st.data())
def test_solution_meets_the_conditions_of_optimality(matrix, data):
    target = data.draw(arrays(np.float64, matrix.shape[:1], elements=values))
    x = non_negative_least_squares(matrix, target)
    gradient = matrix.T @ (matrix @ x - target)
    assert (x >= 0).all()
    tolerance = 1e-4 * (1 + np.abs(matrix).max()) * (1 + np.abs(target).max())
    assert (gradient >= -tolerance).all(), "no cost that is zero should grow"
    assert np.abs(gradient[x > 0]).max(initial=0) <= tolerance, "no cost that is not should change"


def best_of_all_supports(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    """By trying every set of columns that may be positive; of equally good ones the smallest wins."""
    norms = np.linalg.norm(matrix, axis=0)
    usable = [column for column in range(matrix.shape[1]) if norms[column] > 0]
    best, least = np.zeros(matrix.shape[1]), float(target @ target)
    for size in range(1, len(usable) + 1):
        for support in map(list, combinations(usable, size)):
            part = matrix[:, support] / norms[support]
            solution = np.linalg.lstsq(part, target, rcond=None)[0]
            error = float(np.sum((part @ solution - target) ** 2))
            if (solution >= 0).all() and error < least * (1 - 1e-9):
                best, least = np.zeros(matrix.shape[1]), error
                best[support] = solution / norms[support]
    return best


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 7))
def test_solution_is_the_best_of_all_supports(seed, rows, columns):
    """Columns as far apart as bytes and shares; the values are nearly costs, so that most of them are positive."""
    rng = np.random.default_rng(seed)
    matrix = rng.uniform(0, 1, (max(rows, columns), columns)) * 10.0 ** rng.integers(-6, 8, columns)
    target = matrix @ np.maximum(0, rng.normal(size=columns)) * rng.normal(1, 0.01, len(matrix))
    lengths = np.linalg.norm(matrix, axis=0)
    expected = best_of_all_supports(matrix, target) * lengths
    found = non_negative_least_squares(matrix, target) * lengths
    assert found == pytest.approx(expected, rel=1e-7, abs=1e-9 * np.linalg.norm(target))


def test_plain_least_squares_where_that_is_not_negative():
    matrix, true = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 3.0]]), np.array([2.0, 0.5])
    assert non_negative_least_squares(matrix, matrix @ true) == pytest.approx(true)


def test_negative_slope_becomes_the_mean():
    matrix = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    assert non_negative_least_squares(matrix, np.array([3.0, 2.0, 1.0])) == pytest.approx([2.0, 0.0])


@given(st.floats(1e-3, 1e-1), st.floats(1e-10, 1e-7), st.permutations(range(12)))
def test_line_is_recovered_in_any_order(launch, slope, order):
    moved = np.geomspace(1e3, 1e8, 12)[list(order)]
    assert robust_line(moved, launch + slope * moved) == pytest.approx((launch, slope), rel=1e-6)


@pytest.mark.parametrize("factor", [0.05, 20.0])
def test_odd_rows_hardly_matter(factor: float):
    rng = np.random.default_rng(0)
    moved = rng.uniform(1e4, 1e7, 40)
    ms = (0.004 + 5e-9 * moved) * np.exp(0.01 * rng.standard_normal(40))
    ms[:4] *= factor
    assert robust_line(moved, ms) == pytest.approx((0.004, 5e-9), rel=0.03)


def test_rows_of_one_size_are_a_constant():
    launch, slope = robust_line(np.zeros(3), np.array([0.004, 0.005, 0.006]))
    assert (launch, slope) == (pytest.approx(0.005, rel=0.05), 0.0)
