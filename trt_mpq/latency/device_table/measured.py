"""Latency of a plan from what a device charged for the groups and boundaries of a few others."""

from __future__ import annotations

from trt_mpq.artifacts.files import key_of, to_stored_json
from trt_mpq.errors import SettingsError
from trt_mpq.latency.dataflow import Formats, Kernel, Reformat
from trt_mpq.latency.device_table.values import DeviceTable
from trt_mpq.latency.roofline import Latency
from trt_mpq.types import Grouping, Precision, PrecisionPlan


class MeasuredLatency(Latency):
    """Time of one inference of a batch, from a device table.

    Args:
        table: What was measured.
        grouping: Groups and loose ops of the model, the same as those measured.

    Raises:
        SettingsError: The table knows other groups.
    """

    source = "device-table"

    def __init__(self, table: DeviceTable, grouping: Grouping) -> None:
        super().__init__(grouping)
        self.table = table
        self.device = table.provenance.platform.gpu
        self.identity = key_of(to_stored_json(table, DeviceTable))
        known = {group for times in table.group_ms.values() for group in times}
        self._by_id = {group.id: group for group in grouping.groups}
        if known != self._by_id.keys():
            raise SettingsError(
                f"the device table of {table.provenance.platform.gpu} was measured for other layer groups: "
                "run `trt-mpq measure` again with this version and these settings"
            )

    def knows(self, plan: PrecisionPlan) -> bool:
        """Whether every group was measured in its precision."""
        return self.table.covers(plan)

    def kernel_ms(self, kernel: Kernel, formats: Formats) -> float:
        """What the table says of a group; loose ops are part of the rest."""
        if kernel.name not in self._by_id:
            return 0.0
        times = self.table.wide_ms if formats.widens(self._by_id[kernel.name]) else self.table.group_ms
        return self.table.scale * times[formats.computed[kernel.name]][kernel.name]

    def conversion_ms(self, reformat: Reformat) -> float:
        """A point on the table's line."""
        moved_bytes = reformat.moved_bits * self.table.counted_batches / 8
        return self.table.scale * self.table.conversion.realised * self.table.conversion.kernel_ms(moved_bytes)

    def share_ms(self, precision: Precision) -> float:
        """The share of one group in the rest of the engine, as the table has it for `precision`."""
        return self.table.scale * self.table.other_ms[precision] / len(self._by_id)

    def require(self, plan: PrecisionPlan) -> None:
        """Refuse a plan with a group that was not measured in its precision."""
        for group, precision in plan.assignments:
            if group not in self.table.group_ms.get(precision, {}):
                of = self.table.provenance.platform
                known = ", ".join(p for p in Precision if p in self.table.group_ms)
                raise SettingsError(
                    f"the device table of {of.gpu} (TensorRT {of.tensorrt}) does not know {group} in {precision}, it "
                    f"was measured in {known}: run `trt-mpq measure` again with it, or choose other --precisions"
                )


def shares(plan: PrecisionPlan) -> dict[Precision, float]:
    """Precision to the fraction of groups that run in it."""
    return {precision: count / len(plan.assignments) for precision, count in plan.counts().items()}
