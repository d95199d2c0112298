"""The comparison of devices as a page, in the style of the report, and on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trt_mpq.report import wording
from trt_mpq.report.comparison import DeviceComparison, DevicePlan
from trt_mpq.report.page import page
from trt_mpq.types import Precision

if TYPE_CHECKING:
    from rich.console import Console


def render_comparison(comparison: DeviceComparison) -> str:
    """The page as HTML text, beside the run folders that it links to; write it as UTF-8."""
    known = {p for group in comparison.groups for p in group.precisions}
    return page(
        "comparison.html.j2",
        comparison=comparison,
        lead=comparison_lead(comparison),
        formats=_formats_text,
        precisions=[p for p in Precision if p in known],
        energy=any(one.energy_mj for one in comparison.devices),
        priced=any(one.latency_ms.price_per_hour for one in comparison.devices),
        slowest=max(one.latency_ms.plan for one in comparison.devices),
        heaviest=max(one.size_bytes.plan for one in comparison.devices),
    )


def comparison_lead(comparison: DeviceComparison) -> str:
    """In how far the devices want different plans, as a sentence."""
    devices, differing, groups = len(comparison.devices), len(comparison.differing), len(comparison.groups)
    if comparison.plans == 1:
        return f"One plan is the best that was found for all {devices} devices."
    if not differing:
        return f"All {groups} groups run in the same precision on all {devices} devices."
    same = f"{groups - differing} of {groups} groups run in the same precision on all of them"
    differ = "1 differs" if differing == 1 else f"{differing} differ"
    return f"{comparison.plans} plans for {devices} devices: {same}, {differ}."


def _formats_text(device: DevicePlan) -> str:
    """How many groups run in which precision."""
    counts = device.plan.counts
    return ", ".join(f"{counts[p]} {p.name}" for p in Precision if counts.get(p))


def print_comparison(comparison: DeviceComparison, console: Console) -> None:
    """Print one line per device to `console`, and in how far the plans differ."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    metric, baseline = comparison.devices[0].accuracy.metric, comparison.baseline
    used = [p for p in Precision if any(p in one.plan.counts for one in comparison.devices)]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column("device", no_wrap=True, min_width=max(len(one.folder) for one in comparison.devices))
    cost = "energy" if comparison.objective == "energy" else "weights"
    for name in (*(p.name for p in used), metric, "latency", f"vs {baseline.name}", cost):
        table.add_column(name, justify="right", no_wrap=True)
    slowest = max(one.latency_ms.plan for one in comparison.devices)
    heaviest = max(one.size_bytes.plan for one in comparison.devices)
    for one in comparison.devices:
        accuracy, latency, counts = one.accuracy, one.latency_ms, one.plan.counts
        words = (
            one.folder,
            *(str(counts.get(p, 0)) for p in used),
            f"{wording.score_text(accuracy.plan, accuracy)} {'✓' if accuracy.met_by(accuracy.plan) else '✗'}",
            f"{wording.latency_text(latency.plan, slowest)}{wording.time_error(latency.error)}",
            f"{wording.change_text(latency.plan, latency.of(baseline))}{wording.ratio_error(latency.error)}",
            wording.energy_text(one.energy_mj.plan if one.energy_mj else None)
            if cost == "energy"
            else wording.size_text(one.size_bytes.plan, heaviest),
        )
        table.add_row(*(Text(wording.printable(word.removesuffix(" points"))) for word in words))
    first = comparison.devices[0].latency_ms
    title = f"{comparison.model.name} on {len(comparison.devices)} devices, batch {first.batch}, latency {first.source}"
    console.print(Text(wording.printable(title), style="bold"), table, "", sep="\n")
    prices = (f"{one.folder}: {text}" for one in comparison.devices if (text := wording.price_text(one.latency_ms)))
    engines = (f"engine for {one.folder}: {one.engine}" for one in comparison.devices)
    for line in (comparison_lead(comparison), *prices, *engines):
        console.print(Text(wording.printable(line)), soft_wrap=True)
