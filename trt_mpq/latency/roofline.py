"""Latency of plans: what every source of it offers, and the modelled one, a roofline per group.

A group is one kernel. Its modelled time is the larger of arithmetic and memory traffic (Williams, Waterman and
Patterson, "Roofline", CACM 52(4), 2009), plus a fixed launch cost. Absolute numbers are rough; what the
model is for is the order of plans, so it counts the things that make a plan slower than its arithmetic
suggests. Peak rates and efficiencies come from the `Target`; nothing here was measured.

Which tensors are stored in 8 bit and which are converted by a kernel of their own follows from the rules of
`dataflow.py`. A conversion reads, writes and is launched; an op outside every group streams its inputs and its
output in the high precision.

Not modelled: kernels that do not exist for a shape, caches, clocks, and what `dataflow.py` does not count.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from trt_mpq.errors import SettingsError
from trt_mpq.latency.cost_terms import cost_terms
from trt_mpq.latency.dataflow import Dataflow, Formats, Kernel, Reformat, high_precision
from trt_mpq.search.costs import Costs, Term
from trt_mpq.types import Grouping, Precision, PrecisionPlan, Target

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

    def costs(self, options: Mapping[str, Sequence[Precision]]) -> Costs:
        """The latency of every plan as terms that add up, for solvers.

        Args:
            options: Group id to the precisions it may run in.

        Raises:
            SettingsError: Nothing is known of one of them.
        """
        for precision in dict.fromkeys(precision for own in options.values() for precision in own):
            self.require(PrecisionPlan.of({g: precision if precision in own else own[0] for g, own in options.items()}))
        return cost_terms(self, options)

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


class LatencyModel(Latency):
    """Modelled time of one inference of a batch.

    Args:
        grouping: Groups and loose ops of the model.
        target: The GPU; a precision it has no arithmetic for cannot be asked about.
        batch: Samples per inference.

    Raises:
        SettingsError: `batch` is less than 1.
    """

    source = "modelled"
    identity = "modelled"

    def __init__(self, grouping: Grouping, target: Target, batch: int) -> None:
        if batch < 1:
            raise SettingsError(f"the batch must hold at least 1 sample, got {batch}")
        super().__init__(grouping)
        self.device = target.name
        self._target = target
        self._batch = batch

    def knows(self, plan: PrecisionPlan) -> bool:
        """Whether the GPU has arithmetic for every precision of `plan`."""
        return all(self._target.supports(_arithmetic(precision)) for precision in plan.counts())

    def require(self, plan: PrecisionPlan) -> None:
        """Refuse a plan with a precision that the GPU cannot compute in."""
        for precision in plan.counts():
            _require_support(self._target, precision)

    def kernel_ms(self, kernel: Kernel, formats: Formats) -> float:
        """The roofline of a group or loose op."""
        precision = formats.computed[kernel.name]
        written = sum(count * formats.stored[tensor].bits for tensor, count in kernel.writes.items())
        bits = kernel.input_elements * precision.bits + written
        memory_ms = self._stream_ms(bits, once=kernel.weights * precision.bits)
        rate = self._target.peak_tops[_arithmetic(precision)] * 1e12 * self._target.compute_efficiency
        return max(kernel.flops * self._batch / rate * 1e3, memory_ms) + self._launch_ms

    def conversion_ms(self, reformat: Reformat) -> float:
        """Reading, writing and launching."""
        return self._stream_ms(reformat.moved_bits) + self._launch_ms

    def _stream_ms(self, bits: int, once: int = 0) -> float:
        """Time to move `bits` for every sample and `once` more for the whole batch."""
        rate = self._target.bandwidth_gb_s * 1e9 * self._target.memory_efficiency
        return (bits * self._batch + once) / 8 / rate * 1e3

    @property
    def _launch_ms(self) -> float:
        return self._target.launch_us / 1e3


def weight_bytes(plan: PrecisionPlan, grouping: Grouping, other_parameters: int) -> int:
    """Size of all parameters under `plan`, in bytes; scales are left out.

    Args:
        plan: Precision of every group.
        grouping: The groups, whose weights are stored in their precision.
        other_parameters: Number of parameters outside the groups' weights, which are in high precision.
    """
    precisions = plan.as_dict()
    bits = sum(group.weight_elements * precisions[group.id].bits for group in grouping.groups)
    return (bits + other_parameters * high_precision(plan, grouping.top).bits + 7) // 8


def size_costs(grouping: Grouping, other_parameters: int, options: Mapping[str, Sequence[Precision]]) -> Costs:
    """`weight_bytes` of every plan that takes its precisions from `options`, as terms; the all-FP32 plan aside."""
    terms = [
        Term(group.weight_elements * precision.bits / 8, (((group.id, precision),),))
        for group in grouping.groups
        for precision in options[group.id]
    ]
    return Costs(other_parameters * grouping.top.bits / 8, tuple(terms))


def _arithmetic(precision: Precision) -> Precision:
    """Format whose kernels compute `precision`.

    INT4 activations are hypothetical: TensorRT has no such kernels. The study ladder models them at the INT8
    rate with half the bytes, on every GPU that has INT8.
    """
    return Precision.INT8 if precision is Precision.INT4 else precision


def _require_support(target: Target, precision: Precision) -> None:
    if not target.supports(_arithmetic(precision)):
        raise SettingsError(
            f"{target.name} (SM {target.sm}) cannot compute in {precision}: "
            f"choose --precisions from {', '.join(target.peak_tops)}, or another --device"
        )
