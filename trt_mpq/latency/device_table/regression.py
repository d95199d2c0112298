"""Least squares whose coefficients are costs: never negative, and not swayed by a few odd rows."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_ROUNDS = 30
_HUBER = 1.345  # 95 % efficiency for normal residuals (Huber and Ronchetti, "Robust Statistics", 2009)
_MAD_TO_SIGMA = 1.4826
_SHORTEST_MS = 1e-6
_EXACT = 1e-9
"""A relative residual below this is rounding."""


def non_negative_least_squares(matrix: Array, values: Array) -> Array:
    """The non-negative `x` that minimises ``|matrix @ x - values|``.

    The solution is the plain least-squares one on its support. There are a handful of columns, so every support is
    tried; of equally good ones the smallest wins.

    Args:
        matrix: Shape (rows, columns).
        values: Shape (rows,).

    Returns:
        Shape (columns,).
    """
    columns = matrix.shape[1]
    norms = np.linalg.norm(matrix, axis=0)
    usable = [column for column in range(columns) if norms[column] > 0]
    best, least = np.zeros(columns), float(values @ values)
    for size in range(1, len(usable) + 1):
        for support in map(list, combinations(usable, size)):
            part = matrix[:, support] / norms[support]
            solution = np.linalg.lstsq(part, values, rcond=None)[0]
            error = float(np.sum((part @ solution - values) ** 2))
            if (solution >= 0).all() and error < least * (1 - 1e-9):
                best, least = np.zeros(columns), error
                best[support] = solution / norms[support]
    return best


def robust_line(x: Array, y: Array) -> tuple[float, float]:
    """Intercept and slope, neither negative, of a line through `y` over `x`, both of shape (rows,), `y` positive.

    Residuals count relative to the line, as the noise of timings grows with the time, and those beyond what the
    others suggest count less (Huber's weights, iterated).
    """
    design = np.stack([np.ones_like(x), x], axis=1)
    weights = 1 / y
    for _ in range(_ROUNDS):
        coefficients = non_negative_least_squares(design * weights[:, None], y * weights)
        line = np.maximum(design @ coefficients, _SHORTEST_MS)
        residuals = np.abs(y / line - 1)
        bound = max(_HUBER * _MAD_TO_SIGMA * float(np.median(residuals)), _EXACT)
        weights = np.sqrt(bound / np.maximum(residuals, bound)) / line
    return float(coefficients[0]), float(coefficients[1])
