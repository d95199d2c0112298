"""The network with some of its groups really quantized, judged against the network with none."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from trt_mpq.emit import Emitter
from trt_mpq.observer import Progress
from trt_mpq.sensitivity.base import SensitivityInputs
from trt_mpq.sensitivity.perturbation import SampleLoss
from trt_mpq.types import LayerGroup, Precision, PrecisionPlan, Ranking

if TYPE_CHECKING:
    import onnx_ir as ir


class Lowering:
    """Lowers groups with the quantizers they are deployed with, in the reference flavour of `emit/`.

    Every other group stays in FP32, so that what is measured comes from the lowered ones. Operators outside groups
    run in FP16, lowered groups or not.

    Args:
        inputs: Network, samples and loss.

    Attributes:
        measured: How often a loss was measured, that of the baseline not counted.
    """

    def __init__(self, inputs: SensitivityInputs) -> None:
        self._emitter = Emitter(inputs.graph, inputs.grouping, inputs.ranges)
        self._wide = PrecisionPlan.uniform(inputs.grouping.groups, Precision.FP32, Precision.FP32)
        self._runtime = inputs.runtime
        self._loss = SampleLoss(replace(inputs, graph=self.graph((), Precision.FP32)))
        self.measured = 0

    @property
    def forward_passes(self) -> float:
        """Samples run forward so far."""
        return self._loss.samples * (1 + self.measured)

    def graph(self, groups: Iterable[LayerGroup], precision: Precision) -> ir.Model:
        """The reference flavour of the network with `groups` in `precision`."""
        return self._emitter.reference(self._wide.replace({group.id: precision for group in groups}))

    def loss_growth(self, groups: Iterable[LayerGroup], precision: Precision) -> float:
        """Mean loss with `groups` in `precision`, minus that with none lowered; infinite if it is not a number."""
        self.measured += 1
        growth = self._loss.mean_growth(self._runtime.load(self.graph(groups, precision)))
        return math.inf if math.isnan(growth) else growth


def one_by_one(metric: str, inputs: SensitivityInputs, progress: Progress | None) -> Ranking:
    """A ranking of `metric` by the loss growth with each group alone in each candidate precision that it allows."""
    lowering = Lowering(inputs)
    growth: dict[tuple[str, Precision], float] = {}
    for done, group in enumerate(inputs.groups, start=1):
        for precision in filter(group.allows, inputs.candidates):
            growth[group.id, precision] = lowering.loss_growth([group], precision)
        if progress:
            progress(done, len(inputs.groups))
    return inputs.ranking(metric, lambda group, precision: growth[group.id, precision], lowering.forward_passes)
