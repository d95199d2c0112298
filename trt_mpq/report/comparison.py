"""What one model comes to on several devices, side by side: a value, JSON in and out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from trt_mpq import __version__
from trt_mpq.report.compiler import engine_text
from trt_mpq.report.data import (
    AccuracyFigures,
    EnergyFigures,
    LatencyFigures,
    ModelInfo,
    PlanRecord,
    Report,
    SizeFigures,
)
from trt_mpq.types import Precision


@dataclass(frozen=True)
class DevicePlan:
    """What came of the run for one device, as its own report says it; `engine` is what became of an engine, in words.

    `folder` is its run folder, beside the comparison.
    """

    folder: str
    accuracy: AccuracyFigures
    latency_ms: LatencyFigures
    size_bytes: SizeFigures
    plan: PlanRecord
    engine: str
    energy_mj: EnergyFigures | None = None


@dataclass(frozen=True)
class GroupOnDevices:
    """A group and its precision on every device, in their order; None where that device has no such group."""

    id: str
    op_type: str
    flops: int
    precisions: tuple[Precision | None, ...]

    @property
    def differs(self) -> bool:
        """Whether it is not the same everywhere."""
        return len(dict.fromkeys(self.precisions)) > 1


@dataclass(frozen=True)
class DeviceComparison:
    """The runs of one model for several devices.

    `baseline` is the high precision of all, `objective` what every search minimised, `created` an ISO 8601 time;
    `groups` are all groups of all devices, in network order.
    """

    model: ModelInfo
    baseline: Precision
    devices: tuple[DevicePlan, ...]
    groups: tuple[GroupOnDevices, ...]
    command: str
    created: str
    objective: str = "latency"
    version: str = __version__

    @property
    def differing(self) -> tuple[GroupOnDevices, ...]:
        """The groups that do not run the same everywhere."""
        return tuple(group for group in self.groups if group.differs)

    @property
    def plans(self) -> int:
        """How many different plans there are."""
        return len({one.plan.digest for one in self.devices})


def compared(reports: Mapping[str, Report], command: str, created: str) -> DeviceComparison:
    """The runs side by side.

    Args:
        reports: Run folder to what the run has to say, of one model.
        command: The command line.
        created: An ISO 8601 time.
    """
    first = next(iter(reports.values()))
    devices = tuple(_device(folder, report) for folder, report in reports.items())
    groups = tuple(_groups(tuple(reports.values())))
    return DeviceComparison(first.model, first.baseline, devices, groups, command, created, first.search.objective)


def _device(folder: str, report: Report) -> DevicePlan:
    return DevicePlan(
        folder,
        report.accuracy,
        report.latency_ms,
        report.size_bytes,
        report.plan,
        engine_text(report),
        report.energy_mj,
    )


def _groups(reports: tuple[Report, ...]) -> Iterator[GroupOnDevices]:
    rows = [{row.id: row for row in report.group_rows} for report in reports]
    places = {id: row for own in reversed(rows) for id, row in own.items()}
    for id, row in sorted(places.items(), key=lambda item: item[1].index):
        found = (own.get(id) for own in rows)
        yield GroupOnDevices(id, row.op_type, row.flops, tuple(one.precision if one else None for one in found))
