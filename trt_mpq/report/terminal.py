"""The report on a terminal: verdict, one comparison table, and what the reader must not miss."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from trt_mpq.report import device, wording
from trt_mpq.report.data import Report
from trt_mpq.types import Precision

if TYPE_CHECKING:
    from rich.console import Console, Group, RenderableType
    from rich.table import Table

    from trt_mpq.engine.values import Deployment

_STYLES = {
    Precision.FP32: "bright_black",
    Precision.FP16: "blue",
    Precision.FP8: "magenta",
    Precision.INT8: "green",
    Precision.INT4: "yellow",
}


def render_terminal(report: Report, console: Console, details: bool = False) -> None:
    """Print the report to `console`.

    Args:
        report: What to show.
        console: Where; 80 columns without colour are enough.
        details: Also print one line per group.
    """
    _print_verdict(report, console)
    console.print("", _comparison_table(report), sep="\n")
    console.print("", wording.search_cost(report), style="dim", sep="\n", markup=False, highlight=False)
    if report.device:
        _print_section(console, "On the device", device_section(report.device))
    if report.refinement:
        _print_section(console, "Refinement before the search", _refinement_table(report))
    if details:
        title = f"Groups in network order (latency {report.latency_ms.source})"
        _print_section(console, title, _group_table(report))
    _print_list(console, "Warnings", report.warnings, "yellow")
    _print_list(console, "Not done", report.not_done, "cyan")


def _print_verdict(report: Report, console: Console) -> None:
    model, latency = wording.printable(report.model.name), report.latency_ms
    parts = (wording.printable(part) for part in wording.headline(report))
    console.print(f"{model} on {latency.device}, batch {latency.batch}", style="bold", markup=False, highlight=False)
    for line in _filled(parts, console.width):
        console.print(line, markup=False, highlight=False)
    for remark in wording.remarks(report):
        console.print(remark, style="bold", markup=False, highlight=False)


def _filled(parts: Iterable[str], width: int) -> list[str]:
    """`parts` joined by middle dots, broken only between parts."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(part) + 3 <= width:
            lines[-1] += f" · {part}"
        else:
            lines.append(part)
    return lines


def _table() -> Table:
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))


def _comparison_table(report: Report) -> Table:
    from rich.text import Text

    accuracy, latency = report.accuracy, report.latency_ms
    table = _table()
    table.add_column("")
    metric = Text(wording.printable(accuracy.metric))
    for heading in (metric, "of FP32", "target", f"{latency.source}\nlatency", "vs FP16", "size"):
        table.add_column(heading, justify="right", vertical="bottom")
    for v in wording.variants(report):
        table.add_row(
            v.name,
            wording.score_text(v.score, accuracy),
            wording.share_text(v.score, accuracy.fp32),
            wording.MISSING if v.score is None else "met" if v.meets else "missed",
            wording.latency_text(v.latency_ms),
            wording.change_text(v.latency_ms, latency.fp16),
            wording.size_text(v.size_bytes, report.size_bytes.fp32),
            style="bold" if v.precision is None else None,
        )
    return table


def device_section(deployment: Deployment) -> Group:
    """Which engine is shipped and why, what was timed, and what became of the plan."""
    from rich.console import Group
    from rich.text import Text

    table = _table()
    for heading in ("engine", "median", "p99", "vs FP16", "size", "target", ""):
        table.add_column(heading, justify="right" if heading in ("median", "p99", "vs FP16", "size") else "left")
    for row in device.engine_rows(deployment):
        size = wording.MISSING if row.size_bytes is None else wording.size_text(row.size_bytes, row.size_bytes)
        cells = (row.name, row.median, row.p99, row.ratio, size, row.accuracy, row.remark)
        table.add_row(*(Text(wording.printable(cell)) for cell in cells), style="bold" if row.shipped else None)
    lines = [device.platform_text(deployment), device.timing_text(deployment), device.realised_text(deployment)]
    below = [line for line in (*lines, *device.differences(deployment), *deployment.notes) if line]
    verdict = Text(wording.printable(deployment.decision.verdict), style="bold")
    return Group(verdict, table, *(Text(wording.printable(line), style="dim") for line in below))


def _refinement_table(report: Report) -> Table:
    from rich.text import Text

    table = _table()
    for heading in ("", "uniform", "without", "with", "detail"):
        table.add_column(heading, justify="right" if heading.startswith("with") else "left", overflow="fold")
    for r in report.refinement:
        before, after = (wording.score_text(s, report.accuracy) for s in (r.before, r.after))
        table.add_row(r.name, wording.label(r.precision), before, after, Text(wording.printable(r.detail)))
    return table


def _group_table(report: Report) -> Table:
    from rich.text import Text

    candidates = wording.sensitivity_columns(report)
    table = _table()
    table.add_column("#", justify="right")
    table.add_column("group", overflow="fold", ratio=1)
    table.add_column("runs in")
    for p in candidates:
        table.add_column(f"at {wording.label(p)}", justify="right")
    table.add_column("µs", justify="right")
    for row in report.group_rows:
        table.add_row(
            str(row.index + 1),
            Text.assemble(wording.printable(row.id), "\n", (wording.printable(row.reason), "dim")),
            Text(wording.label(row.precision), style=_STYLES[row.precision]),
            *(wording.sensitivity_text(row.sensitivity.get(p)) for p in candidates),
            wording.microseconds_text(row.latency_ms),
        )
    return table


def _print_list(console: Console, title: str, items: Sequence[str], style: str) -> None:
    from rich.table import Table
    from rich.text import Text

    if not items:
        return
    grid = Table.grid(padding=(0, 1))
    for item in items:
        grid.add_row("-", Text(wording.printable(item), overflow="fold"))
    _print_section(console, title, grid, style)


def _print_section(console: Console, title: str, body: RenderableType, style: str = "") -> None:
    console.print(f"\n{title}", style=f"bold {style}", highlight=False)
    console.print(body)
