"""How far a model is from another."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OutputComparison:
    """One output of the typed model against FP32, over the compared samples.

    `sqnr_db` is None when both are bit-equal. `passed` is Polygraphy's verdict at its tolerance.
    """

    output: str
    sqnr_db: float | None
    cosine: float
    max_abs_error: float
    passed: bool


@dataclass(frozen=True)
class Comparison:
    """Polygraphy's FP32-against-typed comparison and our own error figures per output."""

    samples: int
    absolute_tolerance: float
    relative_tolerance: float
    outputs: tuple[OutputComparison, ...]
