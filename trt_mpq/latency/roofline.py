"""Modelled latency of plans: a roofline per group.

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

from trt_mpq.errors import SettingsError
from trt_mpq.latency.base import Latency
from trt_mpq.latency.dataflow import Formats, Kernel, Reformat
from trt_mpq.types import Grouping, Precision, PrecisionPlan, Target


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
        return all(map(self._target.supports, plan.counts()))

    def require(self, plan: PrecisionPlan) -> None:
        """Refuse a plan with a precision that the GPU cannot compute in."""
        target = self._target
        if (precision := next((p for p in plan.counts() if not target.supports(p)), None)) is not None:
            raise SettingsError(
                f"{target.name} (SM {target.sm}) cannot compute in {precision}: "
                f"choose --precisions from {', '.join(p for p in Precision if target.supports(p))}, or another --device"
            )

    def kernel_ms(self, kernel: Kernel, formats: Formats) -> float:
        """The roofline of a group or loose op."""
        precision = formats.computed[kernel.name]
        written = sum(count * formats.stored[tensor].spec.width for tensor, count in kernel.writes.items())
        bits = kernel.input_elements * precision.spec.width + written
        memory_ms = self._stream_ms(bits, once=kernel.weights * precision.spec.weight_width)
        rate = self._target.peak_tops[precision.arithmetic(self.flow.top)] * 1e12 * self._target.compute_efficiency
        return max(kernel.flops * self._batch / rate * 1e3, memory_ms) + self._launch_ms

    def conversion_ms(self, reformat: Reformat) -> float:
        """Reading, writing and launching; what is fused is written only."""
        return self._stream_ms(reformat.moved_bits) + (0.0 if reformat.fused else self._launch_ms)

    def _stream_ms(self, bits: float, once: float = 0) -> float:
        """Time to move `bits` for every sample and `once` more for the whole batch."""
        rate = self._target.bandwidth_gb_s * 1e9 * self._target.memory_efficiency
        return (bits * self._batch + once) / 8 / rate * 1e3

    @property
    def _launch_ms(self) -> float:
        return self._target.launch_us / 1e3
