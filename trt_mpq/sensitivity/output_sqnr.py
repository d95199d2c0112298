"""Output SQNR: how much noise quantizing one group puts on the network's outputs.

Pandey et al., "A Practical Mixed Precision Algorithm for Post-Training Quantization" (2023, arXiv 2302.05397), rank
by it, and AIMET's automatic mixed precision does. It needs no labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from trt_mpq.evaluate.losses import LOSSES
from trt_mpq.sensitivity.base import SensitivityInputs
from trt_mpq.sensitivity.lowering import Growth, Lowered, loss_growths, one_by_one, with_enough_outputs
from trt_mpq.types import Progress, Ranking


@dataclass(frozen=True)
class OutputSqnr:
    """Score = mean over samples of ``|y_q - y|^2 / |y|^2``, with this group alone quantized; SQNR = -10 lg(score) dB.

    The noise-to-signal ratio orders groups as SQNR does, upside down, and unlike decibels it adds up over groups whose
    errors are independent. A network with several outputs has the mean of theirs.
    """

    name: ClassVar[str] = "output-sqnr"

    def rank(self, inputs: SensitivityInputs, progress: Progress | None = None) -> Ranking:
        """Run the samples once per group and allowed precision, and once with none lowered."""
        return one_by_one(self.name, with_enough_outputs(inputs), progress, _noise_to_signal)


def _noise_to_signal(inputs: SensitivityInputs) -> Callable[[Lowered], Growth]:
    return loss_growths(replace(with_enough_outputs(inputs), loss=LOSSES["mse"]))
