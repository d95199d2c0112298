"""The report on a terminal: verdict, one comparison table, and what the reader must not miss."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from trt_mpq.report import verdict, wording
from trt_mpq.report.data import Report
from trt_mpq.report.device import DeviceText, device_text
from trt_mpq.report.layer_split import layer_shares, time_split
from trt_mpq.types import Precision

if TYPE_CHECKING:
    from rich.console import Console, Group, RenderableType
    from rich.table import Table
    from rich.text import Text

    from trt_mpq.sensitivity.agreement import Agreement
    from trt_mpq.types.compilation import Compilation
    from trt_mpq.types.engine import Deployment

_STYLES = {
    Precision.FP32: "bright_black",
    Precision.FP16: "blue",
    Precision.BF16: "cyan",
    Precision.W8A16: "bright_green",
    Precision.FP8: "magenta",
    Precision.INT8: "green",
    Precision.W4A16: "bright_yellow",
    Precision.NVFP4: "bright_magenta",
    Precision.INT4: "yellow",
}


_DEVICE_LINES, _HEADING_LINES = 15, 2
_SHIPPED = "→ "
_COMMAND_LENGTH = 500
"""Characters of a command up to which it is printed."""


def render_terminal(report: Report, console: Console, details: bool = False) -> None:
    """Print the report to `console`.

    Args:
        report: What to show.
        console: Where; 80 columns without colour are enough.
        details: Also print one line per group.
    """
    _print_verdict(report, console)
    console.print("", _comparison_table(report), sep="\n")
    texts = (wording.file_text(report.accuracy), wording.price_text(report.latency_ms))
    costs = [wording.search_cost(report), *filter(None, texts)]
    console.print("", *costs, style="dim", sep="\n", markup=False, highlight=False)
    if report.device:
        details_of = _device_details(report.device, device_text(report.device), _DEVICE_LINES, notes=())
        _print_section(console, "On the device", details_of)
    if report.refinement:
        _print_section(console, "Refinement", _refinement_table(report))
    if report.agreement:
        _print_section(console, "Sensitivity metrics: Kendall tau with task-loss", _tau_table(report.agreement))
    if details:
        title = (
            f"Groups in network order (latency {report.latency_ms.source}{wording.time_error(report.latency_ms.error)})"
        )
        _print_section(console, title, _group_table(report))
    _print_list(console, "Warnings", report.warnings, "yellow")
    _print_list(console, "Not done", report.not_done, "cyan")
    if report.routes:
        _print_routes(report, console)


def _print_routes(report: Report, console: Console) -> None:
    """The ways to an engine; a command is a line of its own, to be copied whole, unless nobody could read it."""
    _print_section(console, "Left to do on the device", wording.done_text(report), "cyan")
    for route in report.routes:
        how = f"not possible: {route.refusal}" if route.refusal else route.command
        if len(how) > _COMMAND_LENGTH:
            how = "the command is in report.html and report.json"
        for text in (f"{route.runtime}, {route.network}", how, route.note):
            if text:
                console.print(wording.printable(text), soft_wrap=True, markup=False, highlight=False)


def _print_verdict(report: Report, console: Console) -> None:
    model, latency = wording.printable(report.model.name), report.latency_ms
    parts = [wording.printable(part) for part in verdict.headline(report)]
    console.print(f"{model} on {latency.device}, batch {latency.batch}", style="bold", markup=False, highlight=False)
    if report.device:
        console.print(wording.printable(verdict.lead(report)), style="bold", markup=False, highlight=False)
        parts[0] = f"searched plan: {parts[0]}"
    for line in _filled(parts, console.width):
        console.print(line, markup=False, highlight=False)
    for remark in verdict.remarks(report):
        console.print(wording.printable(remark), style="bold", markup=False, highlight=False)


def _filled(parts: Iterable[str], width: int) -> list[str]:
    """`parts` joined by middle dots, broken only between parts."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(part) + 3 <= width:
            lines[-1] += f" · {part}"
        else:
            lines.append(part)
    return lines


def _table(collapse_padding: bool = False) -> Table:
    from rich import box
    from rich.table import Table

    return Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), collapse_padding=collapse_padding
    )


def _comparison_table(report: Report) -> Table:
    from rich.text import Text

    accuracy, latency = report.accuracy, report.latency_ms
    table = _table()
    table.add_column("")
    metric = Text(wording.printable(accuracy.metric))
    shares = wording.has_shares(report)
    headings: tuple[str | Text, ...] = (
        metric,
        *(["of FP32"] if shares else []),
        "target",
        f"{latency.source}\nlatency{_own_line(wording.time_error(latency.error))}",
        f"vs {report.baseline.name}{_own_line(wording.ratio_error(latency.error))}",
        "weights",
    )
    for heading in headings:
        table.add_column(heading, justify="right", vertical="bottom")
    for v in wording.variants(report):
        table.add_row(
            v.name,
            wording.score_text(v.score, accuracy),
            *([wording.share_text(v.score, accuracy)] if shares else []),
            wording.MISSING if v.score is None else "met" if v.meets else "missed",
            wording.latency_text(v.latency_ms, wording.slowest_ms(report)),
            wording.change_text(v.latency_ms, latency.of(report.baseline)),
            wording.size_text(v.size_bytes, report.size_bytes.fp32),
            style="bold" if v.precision is None else None,
        )
    return table


def _own_line(text: str) -> str:
    """An error on a line of a heading that nothing breaks; nothing where there is none."""
    return f"\n{text.strip()}".replace(" ", "\u00a0") if text else ""


def device_section(deployment: Deployment) -> Group:
    """Which engine is shipped, what was timed, and what became of the plan: at most 15 lines of 80 columns."""
    from rich.console import Group
    from rich.text import Text

    said = device_text(deployment)
    outcome = (f"{said.outcome}.", *said.cautions)
    lines = (Text(wording.printable(line), style="bold") for line in outcome)
    return Group(*lines, _device_details(deployment, said, _DEVICE_LINES - 1 - len(outcome), deployment.notes))


def compiler_section(compilation: Compilation) -> Group:
    """What NVIDIA's compiler made of the network."""
    from rich.console import Group
    from rich.text import Text

    outcome, *remarks = (wording.printable(line) for line in verdict.compiled(compilation))
    return Group(Text(outcome, style="bold"), *map(Text, remarks))


def _device_details(deployment: Deployment, said: DeviceText, lines: int, notes: Sequence[str]) -> Group:
    """The engines and below them the facts for which `lines` leave room, those that bear on the timings first."""
    from rich.console import Group

    facts = [
        said.platform,
        said.timing,
        said.conditions,
        *(f"{row.name} {row.remark}" for row in said.rows if row.remark),
        said.realised,
        *said.differences,
        _layers_text(deployment, said.layers),
        *notes,
        *(f"option without effect: {text}" for text in said.unused),
    ]
    room = lines - _HEADING_LINES - len(said.rows)
    return Group(_engine_table(said), *map(_line, _cut([fact for fact in facts if fact], max(room, 1))))


def _layers_text(deployment: Deployment, text: str | None) -> str | None:
    split = time_split(layer_shares(deployment))
    share = next((share for purpose, _, share in split if purpose == "groups"), 0.0)
    return f"{text}; groups take {100 * share:.0f} % of the layers' time" if text and split else text


def _engine_table(said: DeviceText) -> Table:
    from rich.text import Text

    table = _table(collapse_padding=True)
    for heading in ("engine", "median ms", "p99 ms", f"% vs {said.baseline}", "file", "target"):
        table.add_column(heading, justify="left" if heading in ("engine", "target") else "right", overflow="fold")
    for row in said.rows:
        state = row.accuracy if row.candidate.build.built else str(row.candidate.build.status)
        times = (wording.MISSING if ms is None else wording.significant(ms) for ms in (row.median_ms, row.p99_ms))
        name = f"{_SHIPPED}{row.name}" if row.shipped else row.name
        cells = (name, *times, row.ratio.replace(" %", ""), row.size, state)
        table.add_row(*(Text(wording.printable(cell)) for cell in cells), style="bold" if row.shipped else None)
    return table


def _cut(lines: Sequence[str], room: int) -> list[str]:
    """The first `lines` that there is room for, the last place saying how many more there are."""
    if len(lines) <= room:
        return list(lines)
    return [*lines[: room - 1], f"and {len(lines) - room + 1} more remarks, all in report.json and report.html"]


def _line(text: str) -> Text:
    """A remark on one line, cut at the window's edge."""
    from rich.text import Text

    flat = " ".join(wording.printable(text).split())
    return Text(flat, style="dim", no_wrap=True, overflow="ellipsis")


def _refinement_table(report: Report) -> Table:
    from rich.text import Text

    table = _table()
    for heading in ("", "format", "without", "with", "detail"):
        table.add_column(heading, justify="right" if heading.startswith("with") else "left", overflow="fold")
    for r in report.refinement:
        before, after = (wording.score_text(s, report.accuracy) for s in (r.before, r.after))
        plan = "" if r.precision is None else r.precision.name
        table.add_row(r.name, plan, before, after, Text(wording.printable(r.detail)))
    return table


def _tau_table(agreement: Agreement) -> Table:
    table = _table()
    table.add_column("")
    for precision in agreement.tau:
        table.add_column(precision.name, justify="right")
    for metric in agreement.metrics:
        table.add_row(metric, *map(wording.tau_text, agreement.with_reference(metric).values()))
    return table


def _group_table(report: Report) -> Table:
    from rich.text import Text

    candidates = report.sensitivity_precisions
    table = _table()
    table.add_column("#", justify="right")
    table.add_column("group", overflow="fold", ratio=1)
    table.add_column("runs in")
    for p in candidates:
        table.add_column(f"at {p.name}", justify="right")
    table.add_column("µs", justify="right")
    for row in report.group_rows:
        table.add_row(
            str(row.index + 1),
            Text.assemble(wording.printable(row.id), "\n", (wording.printable(row.reason), "dim")),
            Text(row.precision.name, style=_STYLES[row.precision]),
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
