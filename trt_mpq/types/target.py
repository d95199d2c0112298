"""A GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trt_mpq.types.precision import Precision


@dataclass(frozen=True)
class Target:
    """A GPU as the latency model sees it; every number is cited in `sources`.

    `peak_tops` maps a precision to dense peak rate in tera-operations per second.
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

    def supports(self, precision: Precision) -> bool:
        """Whether the GPU has arithmetic for `precision`."""
        return precision in self.peak_tops
