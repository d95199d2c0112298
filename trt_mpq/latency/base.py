"""What every source of latencies offers: the time of any plan, kernel by kernel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Literal

from trt_mpq.latency.dataflow import Dataflow, Formats
from trt_mpq.latency.kernels import Kernel, Reformat
from trt_mpq.types import Grouping, Precision, PrecisionPlan
from trt_mpq.types.target import LatencyError

LatencySource = Literal["modelled", "device-table"]
"""A roofline model of a GPU, or sums over a table of times measured on one."""


class Latency(ABC):
    """Time of one inference of a batch under any plan, as a sum over the kernels that run.

    Args:
        grouping: Groups and loose ops of the model.
    """

    source: LatencySource
    """Where the numbers come from."""
    device: str
    """The GPU they hold for."""
    error: LatencyError | None = None
    """How far it is from what was published; None where it was measured, or where nothing tells."""
    identity: str
    """Changes whenever a latency can, the modelled GPU aside."""

    def __init__(self, grouping: Grouping) -> None:
        self.flow = Dataflow(grouping)
        self._groups = tuple(group.id for group in grouping.groups)

    @abstractmethod
    def knows(self, plan: PrecisionPlan) -> bool:
        """Whether the latency of `plan` can be told."""

    @abstractmethod
    def require(self, plan: PrecisionPlan) -> None:
        """Refuse a plan whose latency cannot be told; raises SettingsError."""

    @abstractmethod
    def kernel_ms(self, kernel: Kernel, formats: Formats) -> float:
        """Milliseconds of `kernel`; of `formats` it asks for its own and for those of what it writes."""

    @abstractmethod
    def conversion_ms(self, reformat: Reformat) -> float:
        """Milliseconds of the kernel that converts a tensor."""

    def share_ms(self, precision: Precision) -> float:
        """Milliseconds of what is charged to no kernel, for each group that runs in `precision`."""
        return 0.0

    def charges(self, plan: PrecisionPlan) -> Iterator[tuple[str, float]]:
        """Every kernel that runs: the group or loose op it is charged to ("" if to none), and its milliseconds.

        Raises:
            SettingsError: Nothing is known of a precision of `plan`.
        """
        self.require(plan)
        formats = self.flow.formats(plan)
        for kernel in self.flow.kernels:
            yield kernel.name, self.kernel_ms(kernel, formats)
        for reformat in self.flow.reformats(formats):
            yield reformat.reader, self.conversion_ms(reformat)
        for _, precision in plan.assignments:
            yield "", self.share_ms(precision)

    def plan_ms(self, plan: PrecisionPlan) -> float:
        """Milliseconds for one batch under `plan`: groups, conversions and loose ops.

        Raises:
            SettingsError: Nothing is known of a precision of `plan`.
        """
        return sum(ms for _, ms in self.charges(plan))

    def group_ms(self, plan: PrecisionPlan) -> dict[str, float]:
        """Milliseconds per group id, in network order, with the conversions charged to that group.

        Raises:
            SettingsError: Nothing is known of a precision of `plan`.
        """
        times = dict.fromkeys(self._groups, 0.0)
        for name, ms in self.charges(plan):
            if name in times:
                times[name] += ms
        return times

    def reformats(self, plan: PrecisionPlan) -> tuple[Reformat, ...]:
        """The conversion kernels `plan` needs; those charged to groups come first, in network order."""
        return self.flow.reformats(self.flow.formats(plan))
