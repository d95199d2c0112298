"""Modelled energy of plans: what arithmetic and memory take for each operation, and what is drawn while time passes.

    energy = scale x (operations x e(format) + DRAM bytes x e(DRAM) + cache bytes x e(cache)) + idle power x time

The energies are those of Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, figure 1.1.9
(doi:10.1109/ISSCC.2014.6757323), in 45 nm at 0.9 V. What later processes save is one `scale` for each GPU, so that with
the 16-bit peak and the whole bandwidth in use at once it draws its board power. Power times time would rank plans as
latency does; this does not: fewer and narrower bytes and operations save energy even where no time is saved.
"""

from __future__ import annotations

from trt_mpq.latency.base import KernelCosts, Latency
from trt_mpq.latency.dataflow import Formats
from trt_mpq.latency.kernels import Kernel, Reformat
from trt_mpq.latency.roofline import LatencyModel, Work
from trt_mpq.latency.target import require_power
from trt_mpq.types import Precision, PrecisionPlan, Target

_MULTIPLY_ADD_PJ = {
    Precision.FP32: 3.7 + 0.9,
    Precision.FP16: 1.1 + 0.4,
    Precision.BF16: 1.1 + 0.4,  # assumption: as FP16
    Precision.INT8: 0.2 + 0.1,  # added up in 32 bit
    Precision.FP8: 0.2 + 0.4,  # assumption: multiplied as INT8, added up as FP16
    Precision.NVFP4: 0.1 + 0.4,  # assumption: half of that, added up as FP16
}
"""Picojoules of a multiplication and an addition."""
_DRAM_PJ = 1300 / 8
"""Picojoules of a byte of DRAM, the least of 1.3 to 2.6 nJ for 64 bits."""
_CACHE_PJ = 100 / 8
"""Picojoules of a byte of a cache of 1 MB, 100 pJ for 64 bits."""


class EnergyModel(KernelCosts):
    """Energy of one inference of a batch under any plan; costs are millijoules.

    Args:
        latency: Times the plans.
        work: Knows what kernels compute and move; on `target`.
        target: The GPU.

    Raises:
        SettingsError: Nobody says what the GPU draws.
    """

    source = "modelled"

    def __init__(self, latency: Latency, work: LatencyModel, target: Target) -> None:
        super().__init__(latency.flow)
        require_power(target)
        assert target.board_power_w is not None
        assert target.idle_share is not None
        self._latency, self._work, self._top = latency, work, latency.flow.top
        self._idle_w = target.board_power_w * target.idle_share
        full = Work(target.peak_tops[Precision.FP16] * 1e12, target.bandwidth_gb_s * 1e9, target.bandwidth_gb_s * 1e9)
        self._scale = (target.board_power_w - self._idle_w) / (self._picojoules(full, Precision.FP16) * 1e-12)

    def require(self, plan: PrecisionPlan) -> None:
        """Refuse a plan whose latency cannot be told, and one that the model cannot compute."""
        self._latency.require(plan)
        self._work.require(plan)

    def kernel_cost(self, kernel: Kernel, formats: Formats) -> float:
        """Its arithmetic, its traffic and its time."""
        work = self._work.kernel_work(kernel, formats)
        precision = formats.computed[kernel.name].arithmetic(self._top)
        return self._dynamic_mj(work, precision) + self._idle_w * self._latency.kernel_ms(kernel, formats)

    def conversion_cost(self, reformat: Reformat) -> float:
        """Its traffic and its time."""
        work = self._work.conversion_work(reformat)
        return self._dynamic_mj(work, Precision.FP32) + self._idle_w * self._latency.conversion_ms(reformat)

    def share_cost(self, precision: Precision) -> float:
        """Its time: of what else there is nothing is known."""
        return self._idle_w * self._latency.share_ms(precision)

    def _dynamic_mj(self, work: Work, precision: Precision) -> float:
        return self._scale * self._picojoules(work, precision) * 1e-9

    @staticmethod
    def _picojoules(work: Work, precision: Precision) -> float:
        arithmetic = work.operations / 2 * _MULTIPLY_ADD_PJ[precision] if work.operations else 0.0
        return arithmetic + work.memory_bytes * _DRAM_PJ + work.moved_bytes * _CACHE_PJ
