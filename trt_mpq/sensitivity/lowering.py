"""The network with some of its groups really quantized, judged against the network with none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trt_mpq.sensitivity.base import USUAL_SAMPLES, SensitivityInputs, watched
from trt_mpq.sensitivity.perturbation import SampleLoss
from trt_mpq.sensitivity.prefix import Prefix
from trt_mpq.types import Precision, PrecisionPlan, Progress, Ranking

if TYPE_CHECKING:
    import onnx_ir as ir

    from trt_mpq.emit import Emitter

_OUTPUT_VALUES, _FEWEST_SAMPLES = 1 << 13, 32
"""Values of the network's outputs that tell groups apart, and samples that they come from at least.

Each value is an observation of the noise, so a network with many outputs needs few samples: Kendall's tau of the order
by 32 samples with that by all 256 (100 on the MobileNet) is 0.99 on a MobileNet with 1,000 outputs and 0.99 on MiniLM
with 384, but 0.81 and 0.76 on ResNet-20 and ResNet-56 with 10.
"""

Lowered = tuple[tuple[str, ...], Precision]
"""Ids of groups, and what they are lowered to."""


@dataclass(frozen=True)
class Growth:
    """What lowering groups does.

    Attributes:
        loss: Mean loss with them lowered, minus that with nothing lowered; infinite if it is not a number.
        share: How much of the network was run for that, see `Rest`.
    """

    loss: float
    share: float


class Lowering:
    """Lowers groups with the quantizers they are deployed with, in the reference flavour of `emit/`.

    Every other group stays in FP32, so that what is measured comes from the lowered ones. Operators outside groups
    run in FP16, lowered groups or not.
    """

    def __init__(self, inputs: SensitivityInputs) -> None:
        network = inputs.network
        groups = network.grouping.groups
        self._wide = PrecisionPlan.uniform(groups, Precision.FP32, Precision.FP32)
        unlowered = network.emitter().reference(self._wide)
        self._loss = SampleLoss(replace(inputs, network=replace(network, graph=unlowered)))
        self._prefix = Prefix(unlowered, groups, inputs.runtime, self._loss.chunks, inputs.ways)

    def growth(self, ids: tuple[str, ...], precision: Precision, emitter: Emitter) -> Growth:
        """What lowering these groups does, as `emitter` writes it; it may know other ranges and corrections."""
        lowered = emitter.reference(self._wide.replace(dict.fromkeys(ids, precision)))
        rest = self._prefix.rest(ids, lowered)
        mean = self._loss.mean_growth(rest)
        return Growth(math.inf if math.isnan(mean) else mean, rest.share)


def loss_growths(inputs: SensitivityInputs) -> Callable[[Lowered], Growth]:
    """What lowering groups of the network does, see `Lowering`."""
    lowering, emitter = Lowering(inputs), inputs.network.emitter()
    return lambda lowered: lowering.growth(*lowered, emitter)


def lowering_passes(inputs: SensitivityInputs, growths: Iterable[Growth]) -> float:
    """Samples run forward to measure these: beside them once for the baseline, and once from group to group."""
    return inputs.sample_count * (2.0 + sum(growth.share for growth in growths))


def one_by_one(
    metric: str,
    inputs: SensitivityInputs,
    progress: Progress | None,
    growths: Callable[[SensitivityInputs], Callable[[Lowered], Growth]] = loss_growths,
) -> Ranking:
    """A ranking of `metric` by the loss growth with each group alone in each candidate precision that it allows."""
    parts = [((group.id,), p) for group in inputs.groups for p in filter(group.allows, inputs.candidates)]
    found = watched(inputs.spread(growths)(parts), len(parts), progress)
    growth = dict(zip(parts, found, strict=True))
    passes = lowering_passes(inputs, growth.values())
    return inputs.ranking(metric, lambda group, precision: growth[(group.id,), precision].loss, passes)


def with_enough_outputs(inputs: SensitivityInputs) -> SensitivityInputs:
    """`inputs` limited to as many samples as tell groups apart by the network's outputs, unless limited already."""
    axes = inputs.samples.output_axes
    values = sum(_values_per_row(value, axes.get(str(value.name), 0)) for value in inputs.network.graph.graph.outputs)
    enough = min(USUAL_SAMPLES, max(_FEWEST_SAMPLES, math.ceil(_OUTPUT_VALUES / max(values, 1))))
    return replace(inputs, sample_limit=inputs.sample_limit or enough)


def _values_per_row(output: ir.Value, rows: int) -> int:
    """Values of an output for one row of the batch, which axis `rows` counts; unknown dimensions count as 1."""
    sizes = () if output.shape is None else output.shape
    return math.prod(size for axis, size in enumerate(sizes) if axis != rows and isinstance(size, int))
