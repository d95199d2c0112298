"""Latency of a plan from what a device charged for the groups and boundaries of a few others."""

from __future__ import annotations

from collections.abc import Iterator

from trt_mpq.device_table.values import DeviceTable
from trt_mpq.errors import SettingsError
from trt_mpq.latency import Latency
from trt_mpq.storage import key_of, to_stored_json
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
        self._grouping = grouping
        known = {group for times in table.group_ms.values() for group in times}
        if known != {group.id for group in grouping.groups}:
            raise SettingsError(
                f"the device table of {table.provenance.platform.gpu} was measured for other layer groups: "
                "run `trt-mpq measure` again with this version and these settings"
            )

    def knows(self, plan: PrecisionPlan) -> bool:
        """Whether every group was measured in its precision."""
        return self.table.covers(plan)

    def charges(self, plan: PrecisionPlan) -> Iterator[tuple[str, float]]:
        """Groups, the conversions at their boundaries, and the rest under a name of no group.

        Raises:
            SettingsError: A group was not measured in its precision.
        """
        self._require_covered(plan)
        table, formats = self.table, self.flow.formats(plan)
        for group in self._grouping.groups:
            times = table.wide_ms if formats.widens(group) else table.group_ms
            yield group.id, table.scale * times[formats.computed[group.id]][group.id]
        for reformat in self.flow.reformats(formats):
            moved_bytes = reformat.moved_bits * table.counted_batches / 8
            yield reformat.reader, table.scale * table.conversion.realised * table.conversion.kernel_ms(moved_bytes)
        rest = sum(share * table.other_ms[precision] for precision, share in shares(plan).items())
        yield "", table.scale * rest

    def _require_covered(self, plan: PrecisionPlan) -> None:
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
