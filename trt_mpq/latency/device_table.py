"""Latency measured on a device: what its kernels cost, kept as a file, and what every plan then takes.

A handful of engines are timed layer by layer (`probing.py`) and a table is fitted to them (`fitting.py`). As a file it
serves a search on another machine. All values are frozen, JSON in and out; times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from trt_mpq.artifacts.files import from_json, key_of, to_stored_json, write_text
from trt_mpq.errors import SettingsError
from trt_mpq.latency.base import Latency
from trt_mpq.latency.dataflow import Formats
from trt_mpq.latency.kernels import Kernel, Reformat
from trt_mpq.types import Grouping, Precision, PrecisionPlan
from trt_mpq.types.engine import Platform

_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A time or a factor read back from a file: finite and not negative."""


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
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ConversionCost:
    """Time of a kernel that changes a tensor's format, as a line over the bytes it reads and writes.

    `realised` is what boundaries cost whole engines as a fraction of what the line gives for the conversions that
    plans ask for: below 1 where TensorRT fuses some, above where one takes more than a kernel.
    """

    launch_ms: _Amount
    ms_per_byte: _Amount
    realised: _Amount = 1.0

    def reformat_ms(self, reformat: Reformat, counted_batches: int) -> float:
        """Time of a conversion of so many samples: a kernel, or what one that is fused writes."""
        written_ms = self.ms_per_byte * reformat.moved_bits * counted_batches / 8
        return written_ms if reformat.fused else self.launch_ms + written_ms


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
    group_ms: Mapping[Precision, Mapping[str, _Amount]]
    wide_ms: Mapping[Precision, Mapping[str, _Amount]]
    conversion: ConversionCost
    other_ms: Mapping[Precision, _Amount]
    scale: _Amount
    layer_overhead_ms: float = 0.0
    estimated: Mapping[Precision, tuple[str, ...]] = field(default_factory=dict)
    error: PredictionError | None = None

    def covers(self, plan: PrecisionPlan) -> bool:
        """Whether every group of `plan` was measured in its precision."""
        return all(group in self.group_ms.get(precision, {}) for group, precision in plan.assignments)

    def covers_all(self, grouping: Grouping, formats: Iterable[Precision]) -> bool:
        """Whether every group was measured in all of `formats` that it may run in."""
        return all(self.covers(grouping.uniform(precision)) for precision in formats)


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
        cost = self.table.conversion
        return self.table.scale * cost.realised * cost.reformat_ms(reformat, self.table.counted_batches)

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


def save_table(table: DeviceTable, path: Path) -> None:
    """Write `table` atomically as JSON; raises RunFolderError if that is impossible."""
    write_text(path, to_stored_json(table, DeviceTable))


def load_table(path: Path) -> DeviceTable:
    """The table that `save_table` wrote.

    Raises:
        SettingsError: There is no such file, or it is no device table.
    """
    try:
        return from_json(path.read_bytes(), DeviceTable)
    except OSError as error:
        raise SettingsError(
            f"cannot read the device table {path} ({error.strerror}): write one with `trt-mpq measure`"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise SettingsError(
            f"{path} is no device table of this version ({where}: {first['msg']}): write one with `trt-mpq measure`"
        ) from error


def matches(table: DeviceTable, model_sha256: str, batch: int, platform: Platform | None = None) -> bool:
    """Whether `table` was measured for this model at this batch, and on this device unless `platform` is None.

    A device is its GPU, compute capability and TensorRT version; another driver does not make another device.
    """
    return _mismatch(table, model_sha256, batch, platform) is None


def refuse_mismatch(table: DeviceTable, model_sha256: str, batch: int, platform: Platform | None = None) -> None:
    """Raise SettingsError, saying what differs, unless `matches`."""
    mismatch = _mismatch(table, model_sha256, batch, platform)
    if mismatch is not None:
        raise SettingsError(f"the device table was measured {mismatch}: run `trt-mpq measure` for this one")


def _mismatch(table: DeviceTable, model_sha256: str, batch: int, platform: Platform | None) -> str | None:
    measured = table.provenance
    if measured.model_sha256 != model_sha256:
        return f"for another model (SHA-256 {measured.model_sha256[:12]}, not {model_sha256[:12]})"
    if measured.batch != batch:
        return f"at batch {measured.batch}, not {batch}"
    if platform is not None and _device(measured.platform) != _device(platform):
        return f"on {_device(measured.platform)}, not {_device(platform)}"
    return None


def _device(platform: Platform) -> str:
    return f"{platform.gpu} (SM {platform.sm}) with TensorRT {platform.tensorrt}"
