"""A GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trt_mpq.types.precision import Precision


@dataclass(frozen=True)
class LatencyError:
    """How far modelled latencies were from published ones (`bench/results/published.md`).

    Attributes:
        times: Mean error of a time, relative.
        ratio: Mean error of the time of an 8-bit plan over that of FP16, absolute.
        points: Networks and batches that were compared.
        devices: Where: this device, those of its family, or all.
    """

    times: float
    ratio: float
    points: int
    devices: str


@dataclass(frozen=True)
class Target:
    """A GPU as the latency model sees it; every number is cited in `sources`.

    `peak_tops` maps a precision to dense peak rate in tera-operations per second. Formats that are `apart` should not
    share one network: of INT8 and FP8 one source says that TensorRT does not take both, though TensorRT for RTX does.
    `error` is that of the latency model on this GPU; None if nothing tells it. `board_power_w` is drawn under full
    load, `idle_share` of it whatever runs; without both no energy can be modelled.
    """

    name: str
    description: str
    sm: int
    peak_tops: Mapping[Precision, float]
    bandwidth_gb_s: float
    launch_us: float
    compute_efficiency: float
    memory_efficiency: float
    eight_bit_efficiency: float
    multiprocessors: int
    clock_ghz: float
    l2_mb: float
    sources: Mapping[str, str]
    error: LatencyError | None = None
    board_power_w: float | None = None
    idle_share: float | None = None
    apart: tuple[tuple[Precision, ...], ...] = ((Precision.FP8, Precision.INT8),)

    @property
    def tf32_tops(self) -> float:
        """Dense rate of FP32 products whose operands are rounded to TF32: half of BF16's, 0 before Ampere."""
        return self.peak_tops.get(Precision.BF16, 0.0) / 2

    def supports(self, precision: Precision) -> bool:
        """Whether the GPU has arithmetic for `precision`, or for what that is multiplied in."""
        return self.sm >= precision.spec.first_sm and precision.arithmetic(Precision.FP16) in self.peak_tops
