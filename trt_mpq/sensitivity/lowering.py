"""The network with some of its groups really quantized, judged against the network with none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from trt_mpq.emit import Emitter
from trt_mpq.observer import Progress
from trt_mpq.sensitivity.base import SensitivityInputs, watched
from trt_mpq.sensitivity.perturbation import SampleLoss
from trt_mpq.types import Precision, PrecisionPlan, Ranking

if TYPE_CHECKING:
    import onnx_ir as ir

Lowered = tuple[tuple[str, ...], Precision]
"""Ids of groups, and what they are lowered to."""


class Lowering:
    """Lowers groups with the quantizers they are deployed with, in the reference flavour of `emit/`.

    Every other group stays in FP32, so that what is measured comes from the lowered ones. Operators outside groups
    run in FP16, lowered groups or not.

    Args:
        inputs: Network, samples and loss.
    """

    def __init__(self, inputs: SensitivityInputs) -> None:
        self._emitter = Emitter(inputs.graph, inputs.grouping, inputs.ranges)
        self._wide = PrecisionPlan.uniform(inputs.grouping.groups, Precision.FP32, Precision.FP32)
        self._runtime = inputs.runtime
        self._loss = SampleLoss(replace(inputs, graph=self.graph((), Precision.FP32)))

    def graph(self, groups: Iterable[str], precision: Precision) -> ir.Model:
        """The reference flavour of the network with `groups` in `precision`."""
        return self._emitter.reference(self._wide.replace(dict.fromkeys(groups, precision)))

    def loss_growth(self, lowered: Lowered) -> float:
        """Mean loss with `lowered` in place, minus that with nothing lowered; infinite if it is not a number."""
        growth = self._loss.mean_growth(self._runtime.load(self.graph(*lowered)))
        return math.inf if math.isnan(growth) else growth


def loss_growths(inputs: SensitivityInputs) -> Callable[[Lowered], float]:
    """`Lowering.loss_growth` for these inputs."""
    return Lowering(inputs).loss_growth


def lowering_passes(inputs: SensitivityInputs, measured: int) -> float:
    """Samples run forward to measure so many loss growths, the baseline included."""
    return inputs.sample_count * (1.0 + measured)


def one_by_one(
    metric: str,
    inputs: SensitivityInputs,
    progress: Progress | None,
    growths: Callable[[SensitivityInputs], Callable[[Lowered], float]] = loss_growths,
) -> Ranking:
    """A ranking of `metric` by the loss growth with each group alone in each candidate precision that it allows."""
    parts = [((group.id,), p) for group in inputs.groups for p in filter(group.allows, inputs.candidates)]
    found = watched(inputs.spread(growths)(parts), len(parts), progress)
    growth = dict(zip(parts, found, strict=True))
    return inputs.ranking(
        metric, lambda group, precision: growth[(group.id,), precision], lowering_passes(inputs, len(parts))
    )
