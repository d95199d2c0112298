"""A calibrated network: what every stage after calibration needs to know of a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from trt_mpq.artifacts.files import key_of
from trt_mpq.emit.emitter import Emitter
from trt_mpq.emit.refinements import Refinements
from trt_mpq.types import PER_TENSOR, Grouping, Model, Precision, PrecisionPlan, Ranges


@dataclass(frozen=True)
class Network:
    """A model with its ranges, and its groups with what calibration forbids."""

    model: Model
    graph: ir.Model
    grouping: Grouping
    ranges: Ranges

    def emitter(self, refinements: Refinements | None = None) -> Emitter:
        """Writes plans, with `refinements` applied."""
        return Emitter(self.graph, self.grouping, self.ranges, refinements)

    def marks(self, plan: PrecisionPlan) -> Iterator[str]:
        """What tells `plan` from the same plan with other ranges, in words for a key."""
        return (f"{p}/{self._calibrated(p)}" for p in plan.counts() if p in self.ranges.methods)

    def _calibrated(self, precision: Precision) -> str:
        """The method of a format, with a digest of them where every tensor has one."""
        method = self.ranges.methods[precision]
        if method != PER_TENSOR:
            return method
        own = {name: tensor.methods.get(precision) for name, tensor in self.ranges.tensors.items()}
        return f"{method}-{key_of(own)[:16]}"
