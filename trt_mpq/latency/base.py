"""What every source of latencies, or of energy, offers: what any plan costs, kernel by kernel."""

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


class KernelCosts(ABC):
    """What one inference of a batch costs under any plan, as a sum over the kernels that run.

    Args:
        flow: Which kernels those are.
    """

    def __init__(self, flow: Dataflow) -> None:
        self.flow = flow

    @abstractmethod
    def require(self, plan: PrecisionPlan) -> None:
        """Refuse a plan whose cost cannot be told; raises SettingsError."""

    @abstractmethod
    def kernel_cost(self, kernel: Kernel, formats: Formats) -> float:
        """Cost of `kernel`; of `formats` it asks for its own and for those of what it writes."""

    @abstractmethod
    def conversion_cost(self, reformat: Reformat) -> float:
        """Cost of the kernel that converts a tensor."""

    def share_cost(self, precision: Precision) -> float:
        """Cost of what is charged to no kernel, for each group that runs in `precision`."""
        return 0.0

    def charges(self, plan: PrecisionPlan) -> Iterator[tuple[str, float]]:
        """Every kernel that runs: the group or loose op it is charged to ("" if to none), and its cost.

        Raises:
            SettingsError: Nothing is known of a precision of `plan`.
        """
        self.require(plan)
        formats = self.flow.formats(plan)
        for kernel in self.flow.kernels:
            yield kernel.name, self.kernel_cost(kernel, formats)
        for reformat in self.flow.reformats(formats):
            yield reformat.reader, self.conversion_cost(reformat)
        for _, precision in plan.assignments:
            yield "", self.share_cost(precision)

    def plan_cost(self, plan: PrecisionPlan) -> float:
        """Cost of one batch under `plan`: groups, conversions and loose ops.

        Raises:
            SettingsError: Nothing is known of a precision of `plan`.
        """
        return sum(cost for _, cost in self.charges(plan))


class Latency(KernelCosts):
    """Time of one inference of a batch under any plan; costs are milliseconds.

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
        super().__init__(Dataflow(grouping))
        self._groups = tuple(group.id for group in grouping.groups)

    @abstractmethod
    def knows(self, plan: PrecisionPlan) -> bool:
        """Whether the latency of `plan` can be told."""

    @abstractmethod
    def kernel_ms(self, kernel: Kernel, formats: Formats) -> float:
        """Milliseconds of `kernel`; of `formats` it asks for its own and for those of what it writes."""

    @abstractmethod
    def conversion_ms(self, reformat: Reformat) -> float:
        """Milliseconds of the kernel that converts a tensor."""

    def share_ms(self, precision: Precision) -> float:
        """Milliseconds of what is charged to no kernel, for each group that runs in `precision`."""
        return 0.0

    def kernel_cost(self, kernel: Kernel, formats: Formats) -> float:
        """Its milliseconds."""
        return self.kernel_ms(kernel, formats)

    def conversion_cost(self, reformat: Reformat) -> float:
        """Its milliseconds."""
        return self.conversion_ms(reformat)

    def share_cost(self, precision: Precision) -> float:
        """Its milliseconds."""
        return self.share_ms(precision)

    def plan_ms(self, plan: PrecisionPlan) -> float:
        """Milliseconds for one batch under `plan`, as `plan_cost`."""
        return self.plan_cost(plan)

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
