"""Task loss: what really quantizing one group costs, the truth that cheaper metrics estimate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trt_mpq.sensitivity.base import SensitivityInputs
from trt_mpq.sensitivity.lowering import one_by_one
from trt_mpq.types import Progress, Ranking


@dataclass(frozen=True)
class TaskLoss:
    """Score = mean loss with this group alone quantized - mean loss with none quantized; signed.

    Weights and activations are quantized as they are deployed, see `loss_growths`; nothing is random. It costs one pass
    over the samples per group and precision. What it leaves out is how groups act together.
    """

    name: ClassVar[str] = "task-loss"

    def rank(self, inputs: SensitivityInputs, progress: Progress | None = None) -> Ranking:
        """Run the samples once per group and allowed precision, and once with none lowered."""
        return one_by_one(self.name, inputs, progress)
