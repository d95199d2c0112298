"""What every sequential test shares."""

from __future__ import annotations

from typing import Protocol

from trt_mpq.evaluate.metrics.base import Scores
from trt_mpq.types import Score


class PairedTest(Protocol):
    """Compares a plan with FP32 sample by sample. The plan's numbers come in the order in which samples are drawn."""

    def decide(self, plan: Scores) -> bool | None:
        """Whether the plan keeps the required score on all samples, from its numbers so far; None while undecided."""

    def estimate(self, plan: Scores) -> Score:
        """The plan's score on all samples as its numbers so far suggest: FP32's, and the difference seen so far."""
