"""What refinement recovered."""

from __future__ import annotations

from dataclasses import dataclass

from trt_mpq.types.precision import Precision


@dataclass(frozen=True)
class RefinementRecord:
    """What one refinement recovered: score of the plan that `precision` is judged by without and with it, if measured.

    `precision` is None where it was refined for exactly the chosen plan; `after` then is the delivered plan's score.
    `kept` tells whether the refinement stays.
    """

    name: str
    precision: Precision | None
    before: float | None
    after: float | None
    detail: str
    kept: bool = True
