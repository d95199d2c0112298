"""What is measured on a device and what is kept of it: frozen values, JSON in and out. Times are milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from trt_mpq.types import Precision, PrecisionPlan
from trt_mpq.types.engine import EngineLayer, Platform

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A time or a factor read back from a file: finite and not negative."""


@dataclass(frozen=True)
class ProbedEngine:
    """An engine that was built from `plan` and timed.

    Attributes:
        plan: The precision of every group.
        gpu_ms: Median time of one inference on the GPU.
        layers: The engine's layers.
        layer_ms: Layer name to median time, from a run with TensorRT's profiler.
    """

    plan: PrecisionPlan
    gpu_ms: float
    layers: tuple[EngineLayer, ...]
    layer_ms: Mapping[str, float]


@dataclass(frozen=True)
class Provenance:
    """Where a table comes from.

    Attributes:
        model_sha256: Digest of the model file.
        batch: Samples per inference.
        platform: The device and the versions of its libraries.
        created: When it was measured, ISO 8601.
        settings: How engines were built and timed.
    """

    model_sha256: str
    batch: int
    platform: Platform
    created: str
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ConversionCost:
    """Time of a kernel that changes a tensor's format, as a line over the bytes it reads and writes.

    `realised` is what boundaries cost whole engines as a fraction of what the line gives for the conversions that
    plans ask for: below 1 where TensorRT fuses some, above where one takes more than a kernel.
    """

    launch_ms: Amount
    ms_per_byte: Amount
    realised: Amount = 1.0

    def kernel_ms(self, moved_bytes: float) -> float:
        """Time of one kernel that reads and writes `moved_bytes` together."""
        return self.launch_ms + self.ms_per_byte * moved_bytes


@dataclass(frozen=True)
class PredictionError:
    """How far predictions for mixed engines were off that had no part in the fit, relative to their measured time."""

    engines: int
    mean: float
    largest: float


@dataclass(frozen=True)
class DeviceTable:
    """What the kernels of one model cost on one device. `MeasuredLatency` turns it into the latency of a plan.

    Attributes:
        provenance: Model, batch, device, date and settings.
        builds: Engines it was fitted to.
        counted_batches: How many times an inference holds the samples that the model's element counts hold for.
        group_ms: Precision to group id to time; the group writes its output in that precision.
        wide_ms: The same for 8-bit groups that write their output in the high precision, at a boundary.
        conversion: Cost of kernels that convert a tensor at a boundary.
        other_ms: Time of all else in an engine whose groups all run in one precision: layers outside every group,
            and conversions that no boundary asks for. A mixed plan takes the mean by its groups' precisions.
        scale: Time of a whole engine over the sum of these times, as timing layers one by one adds to them.
        layer_overhead_ms: Time that was taken off every layer for the same reason; negative if it was added.
        estimated: Precision to groups whose time no engine tells; theirs is their share of the arithmetic.
        error: How well it predicts; None without mixed engines.
    """

    provenance: Provenance
    builds: int
    counted_batches: int
    group_ms: Mapping[Precision, Mapping[str, Amount]]
    wide_ms: Mapping[Precision, Mapping[str, Amount]]
    conversion: ConversionCost
    other_ms: Mapping[Precision, Amount]
    scale: Amount
    layer_overhead_ms: float = 0.0
    estimated: Mapping[Precision, tuple[str, ...]] = field(default_factory=dict)
    error: PredictionError | None = None

    def covers(self, plan: PrecisionPlan) -> bool:
        """Whether every group of `plan` was measured in its precision."""
        return all(group in self.group_ms.get(precision, {}) for group, precision in plan.assignments)
