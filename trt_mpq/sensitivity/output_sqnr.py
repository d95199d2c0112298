"""Output SQNR: how much noise quantizing one group puts on the network's outputs.

Pandey et al., "A Practical Mixed Precision Algorithm for Post-Training Quantization" (2023, arXiv 2302.05397), rank
by it, and AIMET's automatic mixed precision does. It needs no labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from trt_mpq.evaluate.losses import LOSSES
from trt_mpq.sensitivity.base import USUAL_SAMPLES, SensitivityInputs
from trt_mpq.sensitivity.lowering import Growth, Lowered, loss_growths, one_by_one
from trt_mpq.types import Progress, Ranking

if TYPE_CHECKING:
    import onnx_ir as ir


_OUTPUT_VALUES, _FEWEST_SAMPLES = 1 << 13, 32
"""Values of the network's outputs that tell groups apart, and samples that they come from at least.

Each value is an observation of the noise, so a network with many outputs needs few samples: Kendall's tau of the order
by 32 samples with that by all 256 (100 on the MobileNet) is 0.99 on a MobileNet with 1,000 outputs and 0.99 on MiniLM
with 384, but 0.81 and 0.76 on ResNet-20 and ResNet-56 with 10.
"""


@dataclass(frozen=True)
class OutputSqnr:
    """Score = mean over samples of ``|y_q - y|^2 / |y|^2``, with this group alone quantized; SQNR = -10 lg(score) dB.

    The noise-to-signal ratio orders groups as SQNR does, upside down, and unlike decibels it adds up over groups whose
    errors are independent. A network with several outputs has the mean of theirs.
    """

    name: ClassVar[str] = "output-sqnr"

    def rank(self, inputs: SensitivityInputs, progress: Progress | None = None) -> Ranking:
        """Run the samples once per group and allowed precision, and once with none lowered."""
        return one_by_one(self.name, _with_enough(inputs), progress, _noise_to_signal)


def _noise_to_signal(inputs: SensitivityInputs) -> Callable[[Lowered], Growth]:
    return loss_growths(replace(_with_enough(inputs), loss=LOSSES["mse"]))


def _with_enough(inputs: SensitivityInputs) -> SensitivityInputs:
    """`inputs` limited to as many samples as it takes, unless they are limited already."""
    values = sum(_values_per_row(output) for output in inputs.network.graph.graph.outputs)
    enough = min(USUAL_SAMPLES, max(_FEWEST_SAMPLES, math.ceil(_OUTPUT_VALUES / max(values, 1))))
    return replace(inputs, sample_limit=inputs.sample_limit or enough)


def _values_per_row(output: ir.Value) -> int:
    """Values of an output for one row of the batch; dimensions that are not known count as 1."""
    dimensions = () if output.shape is None else output.shape[1:]
    return math.prod(size for size in dimensions if isinstance(size, int))
