"""What the commands about engines print for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from trt_mpq.cli.tables import cells, table_of
from trt_mpq.report.wording import latency_text, microseconds_text
from trt_mpq.types import Precision

if TYPE_CHECKING:
    from trt_mpq.engine.run import OutputArray
    from trt_mpq.latency.device_table import DeviceTable


def device_table_table(table: DeviceTable) -> RenderableType:
    """Microseconds per group and precision, what a conversion costs, and how far the table can be trusted."""
    precisions = [p for p in Precision if p in table.group_ms]
    conversion = table.scale * table.conversion.realised
    shown = table_of("group", *(f"{p.name}, µs" for p in precisions))
    for group in dict.fromkeys(g for p in precisions for g in table.group_ms[p]):
        times = (table.group_ms[p].get(group) for p in precisions)
        scaled = (None if ms is None else table.scale * ms for ms in times)
        shown.add_row(*cells((group, *map(microseconds_text, scaled))))
    of = table.provenance.platform
    lines = [
        f"{of.gpu}, TensorRT {of.tensorrt}, batch {table.provenance.batch}, from {table.builds} engines",
        f"a conversion takes {latency_text(conversion * table.conversion.launch_ms)} and "
        f"{latency_text(conversion * table.conversion.ms_per_byte * 1e6)} per MB read and written",
    ]
    if table.error is not None:
        lines.append(
            f"{table.error.engines} mixed engines left out of the fit were predicted within {table.error.mean:.1%} on "
            f"average, {table.error.largest:.1%} at most"
        )
    lines += [
        f"estimated in {precision.name}, no engine tells: {', '.join(groups)}"
        for precision, groups in table.estimated.items()
        if groups
    ]
    return Group(shown, *cells(lines))


def outputs_table(outputs: tuple[OutputArray, ...]) -> RenderableType:
    """Name, type and shape of every output."""
    shown = table_of("output", "type", "shape")
    for output in outputs:
        shown.add_row(*cells((output.name, output.dtype, "x".join(map(str, output.shape)))))
    return shown
