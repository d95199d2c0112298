"""A GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trt_mpq.types.precision import Precision


@dataclass(frozen=True)
class Target:
    """A GPU as the latency model sees it; every number is cited in `sources`.

    `peak_tops` maps a precision to dense peak rate in tera-operations per second. Formats that are `apart` should not
    share one network: of INT8 and FP8 one source says that TensorRT does not take both, though TensorRT for RTX does.
    """

    name: str
    description: str
    sm: int
    peak_tops: Mapping[Precision, float]
    bandwidth_gb_s: float
    launch_us: float
    compute_efficiency: float
    memory_efficiency: float
    sources: Mapping[str, str]
    apart: tuple[frozenset[Precision], ...] = (frozenset({Precision.FP8, Precision.INT8}),)

    def supports(self, precision: Precision) -> bool:
        """Whether the GPU has arithmetic for `precision`, or for what that is multiplied in."""
        return self.sm >= precision.spec.first_sm and precision.arithmetic(Precision.FP16) in self.peak_tops
