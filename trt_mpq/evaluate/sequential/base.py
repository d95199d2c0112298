"""What every sequential test shares."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trt_mpq.types import Score

Numbers = NDArray[np.float64]
"""What a metric keeps of every sample: its score [n], or several numbers [n, k]."""


class PairedTest(Protocol):
    """Compares a plan with FP32 sample by sample. The plan's numbers come in the order in which samples are drawn."""

    def decide(self, plan: Numbers) -> bool | None:
        """Whether the plan keeps the required score on all samples, from its numbers so far; None while undecided."""

    def estimate(self, plan: Numbers) -> Score:
        """The plan's score on all samples as its numbers so far suggest: FP32's, and the difference seen so far."""
