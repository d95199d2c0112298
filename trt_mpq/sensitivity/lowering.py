"""The network with some of its groups really quantized, judged against the network with none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trt_mpq.sensitivity.base import SensitivityInputs, watched
from trt_mpq.sensitivity.perturbation import SampleLoss
from trt_mpq.sensitivity.prefix import Prefix
from trt_mpq.types import Precision, PrecisionPlan, Progress, Ranking

if TYPE_CHECKING:
    import onnx_ir as ir

Lowered = tuple[tuple[str, ...], Precision]
"""Ids of groups, and what they are lowered to."""


@dataclass(frozen=True)
class Growth:
    """What lowering groups does.

    Attributes:
        loss: Mean loss with them lowered, minus that with nothing lowered; infinite if it is not a number.
        share: How much of the network was run for that, see `Start`.
    """

    loss: float
    share: float


class Lowering:
    """Lowers groups with the quantizers they are deployed with, in the reference flavour of `emit/`.

    Every other group stays in FP32, so that what is measured comes from the lowered ones. Operators outside groups
    run in FP16, lowered groups or not.

    Args:
        inputs: Network, samples and loss.
    """

    def __init__(self, inputs: SensitivityInputs) -> None:
        self._emitter = inputs.network.emitter()
        self._wide = PrecisionPlan.uniform(inputs.network.grouping.groups, Precision.FP32, Precision.FP32)
        self._runtime = inputs.runtime
        unlowered = self.graph((), Precision.FP32)
        self._loss = SampleLoss(replace(inputs, network=replace(inputs.network, graph=unlowered)))
        self._prefix = Prefix(unlowered, inputs.network.grouping.groups, inputs.runtime, self._loss.chunks)

    def graph(self, groups: Iterable[str], precision: Precision) -> ir.Model:
        """The reference flavour of the network with `groups` in `precision`."""
        return self._emitter.reference(self._wide.replace(dict.fromkeys(groups, precision)))

    def growth(self, lowered: Lowered) -> Growth:
        """What `lowered` does to the loss."""
        groups, _ = lowered
        start = self._prefix.before(groups)
        loss = self._loss.mean_growth(start.load(self._runtime, self.graph(*lowered)))
        return Growth(math.inf if math.isnan(loss) else loss, start.share)


def loss_growths(inputs: SensitivityInputs) -> Callable[[Lowered], Growth]:
    """`Lowering.growth` for these inputs."""
    return Lowering(inputs).growth


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
