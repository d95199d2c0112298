"""The pictures of a network: ribbon, sensitivity bars, comparison bars. Pure functions from report to SVG.

One colour stands for one precision everywhere: elements carry a class such as ``int8`` and the page's style
sheet gives it a colour for light and dark. `data-tip` holds what a pointer resting there should learn,
`data-group` ties together the marks of one group across charts and table.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import floor, isfinite, log10
from xml.etree.ElementTree import Element

from trt_mpq.report import wording
from trt_mpq.report.data import GroupRow, Report
from trt_mpq.report.svg import Scale, add, canvas, markup, percent, tick_labels
from trt_mpq.types import Precision

_RIBBON_HEIGHT = 44.0
_BARS_HEIGHT = 150.0
_CROWDED = 60
"""From this many groups on, gaps between marks would hide the marks."""
_SEAM = 0.0005
"""Neighbours overlap by this much of the width, or rounding to pixels opens cracks between them."""
_FEWEST_SLOTS = 12
"""A network of one group gets a bar, not a wall."""
_LONGEST_LOG_RANGE = 6
"""Decades a logarithmic axis spans at most; smaller values sit at its lower edge."""
_HEAVY_TAIL = 12.0
"""A largest value this many times the median flattens the others on a linear axis."""


def _tip(row: GroupRow, report: Report) -> str:
    """What to show when the pointer rests on a group, one fact per line."""
    shape = wording.shapes(row.weight_shapes)
    latency = f"{report.latency_ms.source} {wording.microseconds_text(row.latency_ms)} µs"
    if row.baseline_latency_ms is not None:
        high = Precision.FP16 if row.bf16_latency_ms is None else Precision.BF16
        latency += f", in {high.name} {wording.microseconds_text(row.baseline_latency_ms)} µs"
    sensitivities = (f"sensitivity at {p.name} {wording.sensitivity_text(v)}" for p, v in row.sensitivity.items())
    lines = [
        f"{row.index + 1}. {row.id}",
        f"{row.precision.name}: {row.reason}",
        " + ".join((row.op_type, *row.followers)) + f", weight {shape}",
        *sensitivities,
        latency if row.latency_ms is not None else f"{wording.count_text(row.flops)} FLOPs",
    ]
    return "\n".join(line.replace("\n", " ") for line in lines)


def network_ribbon(report: Report) -> str:
    """Groups in network order, as long as they take: all in high precision above, the plan below, on one time axis.

    Falls back to one ribbon proportional to FLOPs when the groups have no latencies.
    """
    if not report.has_group_latencies:
        return _flops_ribbon(report)
    rows, latency = report.group_rows, report.latency_ms
    planned = [row.latency_ms or 0.0 for row in rows]
    ribbons = [_Ribbon("This plan", planned, latency.plan, [str(row.precision) for row in rows])]
    baseline_ms, high = latency.of(report.baseline), report.baseline
    if baseline_ms and all(row.baseline_latency_ms is not None for row in rows):
        wide = [row.baseline_latency_ms or 0.0 for row in rows]
        ribbons.insert(0, _Ribbon(f"Every group in {high.name}", wide, baseline_ms, [high.value] * len(rows)))
    scale = Scale(0, max(ribbon.length for ribbon in ribbons))
    height = len(ribbons) * (_RIBBON_HEIGHT + 30)
    drawing = canvas(height + 26, f"Groups in network order, width proportional to {latency.source} latency")
    for i, ribbon in enumerate(ribbons):
        _draw_ribbon(drawing, ribbon, scale, i * (_RIBBON_HEIGHT + 30), report)
    _time_axis(drawing, scale, height)
    return markup(drawing)


@dataclass(frozen=True)
class _Ribbon:
    name: str
    widths: Sequence[float]
    total: float
    classes: Sequence[str]

    @property
    def length(self) -> float:
        return max(self.total, sum(self.widths))


def _draw_ribbon(drawing: Element, ribbon: _Ribbon, scale: Scale, top: float, report: Report) -> None:
    add(drawing, "text", ribbon.name, x="0", y=top + 14, class_="label")
    end = percent(scale.at(ribbon.length))
    add(
        drawing, "text", wording.latency_text(ribbon.length), x=end, y=top + 14, class_="label value", text_anchor="end"
    )
    dense = " dense" if len(ribbon.widths) > _CROWDED else ""
    starts = [0.0, *accumulate(ribbon.widths)]
    marks = add(drawing, "g", class_=f"ribbon{dense}")
    for row, start, width, css in zip(report.group_rows, starts, ribbon.widths, ribbon.classes, strict=False):
        _segment(marks, scale, start, width, top, css, data_group=row.index, data_tip=_tip(row, report))
    rest = ribbon.length - starts[-1]
    if rest > 1e-6 * ribbon.length:
        tip = f"outside the groups\nother operators, launches and conversions\n{wording.latency_text(rest)}"
        _segment(marks, scale, starts[-1], rest, top, "other", data_tip=tip)


def _segment(
    parent: Element, scale: Scale, start: float, width: float, top: float, css: str, **data: str | float
) -> None:
    left, right = scale.at(start), scale.at(start + width)
    width_drawn = percent(right - left + _SEAM)
    add(parent, "rect", x=percent(left), width=width_drawn, y=top + 22, height=_RIBBON_HEIGHT, class_=css, **data)


def _time_axis(drawing: Element, scale: Scale, top: float) -> None:
    ticks = scale.ticks(5)
    for tick, text in zip(ticks, tick_labels(ticks), strict=True):
        x = percent(scale.at(tick))
        add(drawing, "line", x1=x, x2=x, y1=top - 4, y2=top + 2, class_="axis")
        anchor = "start" if tick == 0 else "end" if scale.at(tick) > 0.97 else "middle"
        unit = " ms" if tick == ticks[-1] else ""
        add(drawing, "text", text + unit, x=x, y=top + 16, class_="tick", text_anchor=anchor)


def _flops_ribbon(report: Report) -> str:
    rows = report.group_rows
    drawing = canvas(_RIBBON_HEIGHT + 30, "Groups in network order, width proportional to FLOPs")
    flops = [float(max(row.flops, 1)) for row in rows]
    total = sum(flops)
    add(drawing, "text", "This plan", x="0", y=14, class_="label")
    text = f"{wording.count_text(total)} FLOPs"
    add(drawing, "text", text, x="100%", y=14, class_="label value", text_anchor="end")
    marks = add(drawing, "g", class_="ribbon" + (" dense" if len(rows) > _CROWDED else ""))
    for row, start, width in zip(rows, [0.0, *accumulate(flops)], flops, strict=False):
        css = str(row.precision)
        _segment(marks, Scale(0, total), start, width, 0, css, data_group=row.index, data_tip=_tip(row, report))
    return markup(drawing)


def sensitivity_bars(report: Report, precision: Precision) -> str:
    """Sensitivity of every group to `precision`, in network order, coloured by what the plan chose."""
    rows = report.group_rows
    values = [_finite(row.sensitivity.get(precision)) for row in rows]
    scale = _sensitivity_scale([v for v in values if v is not None])
    kind = "logarithmic" if scale.log else "linear"
    text = f"Sensitivity of each group at {precision.name} in network order, {kind} scale"
    drawing = canvas(_BARS_HEIGHT + 22, text)
    _sensitivity_axis(drawing, scale)
    gap = 0.06 if len(rows) > _CROWDED else 0.16
    slots = max(len(rows), _FEWEST_SLOTS)
    for i, (row, value) in enumerate(zip(rows, values, strict=True)):
        left, width = (i + gap) / slots, (1 - 2 * gap) / slots
        _sensitivity_mark(drawing, scale, row, value, left, width)
        x, full = percent(i / slots), percent(1 / slots)
        data: dict[str, str | float] = {"data_group": row.index, "data_tip": _tip(row, report)}
        add(drawing, "rect", x=x, width=full, y=0, height=_BARS_HEIGHT, class_="hit", **data)
    _index_axis(drawing, len(rows))
    return markup(drawing)


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


def _sensitivity_scale(values: Sequence[float]) -> Scale:
    """Logarithmic if a linear axis would show one tall bar and nothing else, else linear through zero."""
    positive = [v for v in values if v > 0]
    if positive and max(positive) > _HEAVY_TAIL * statistics.median(positive):
        top = max(positive)
        low = max(min(positive), top * 10.0**-_LONGEST_LOG_RANGE)
        return Scale(10.0 ** floor(log10(low) - 0.05), top * 1.25, log=True)
    low, high = min(0.0, *values, 0.0), max(0.0, *values, 0.0)
    if low == high:
        return Scale(0, 1)
    return Scale(low * 1.05, high * 1.05)


def _sensitivity_axis(drawing: Element, scale: Scale) -> None:
    ticks = scale.ticks(4)
    labels = [_power_label(t) for t in ticks] if scale.log else _short_labels(ticks)
    for tick, text in zip(ticks, labels, strict=True):
        y = _BARS_HEIGHT * (1 - scale.at(tick))
        css = "axis" if tick == 0 else "grid"
        add(drawing, "line", x1="0", x2="100%", y1=y, y2=y, class_=css)
        add(drawing, "text", text, x=-8, y=y + 4, class_="tick", text_anchor="end")


def _power_label(value: float) -> str:
    """A power of ten as 10⁻³; 0.1, 1 and 10 as they are."""
    exponent = round(log10(value))
    if -1 <= exponent <= 1:
        return f"{value:g}"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _short_labels(ticks: Sequence[float]) -> list[str]:
    largest = max(abs(t) for t in ticks)
    if 1e-3 <= largest < 1e5:
        return tick_labels(list(ticks))
    return [wording.minus(f"{t:.1e}".replace("e-0", "e-")) if t else "0" for t in ticks]


def _sensitivity_mark(
    drawing: Element, scale: Scale, row: GroupRow, value: float | None, left: float, width: float
) -> None:
    """A bar from zero (or the lower edge of a log axis); a hollow dot where a log axis cannot show the value."""
    box: dict[str, str | float] = {"x": percent(left), "width": percent(width)}
    base = _BARS_HEIGHT * (1 - (0.0 if scale.log else scale.at(0)))
    if value is None:
        return
    if scale.log and value < scale.low:
        centre = percent(left + width / 2)
        add(drawing, "circle", cx=centre, cy=base - 4, r=2.5, class_=f"hollow {row.precision}")
        return
    y = _BARS_HEIGHT * (1 - scale.at(value))
    height = max(abs(base - y), 1.0)
    add(drawing, "rect", y=min(y, base) if height > 1 else base - 1, height=height, class_=str(row.precision), **box)


def _index_axis(drawing: Element, count: int) -> None:
    add(drawing, "line", x1="0", x2="100%", y1=_BARS_HEIGHT, y2=_BARS_HEIGHT, class_="axis")
    slots = max(count, _FEWEST_SLOTS)
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if count / s <= 12)
    shown = [1, *(i for i in range(step, count + 1, step) if i > 1)]
    for number in shown:
        x = percent((number - 0.5) / slots)
        add(drawing, "text", str(number), x=x, y=_BARS_HEIGHT + 16, class_="tick", text_anchor="middle")


@dataclass(frozen=True)
class _Bar:
    """One horizontal bar: its `parts` are (style class, length) from left to right."""

    name: str
    text: str
    parts: tuple[tuple[str, float], ...]


def _horizontal_bars(bars: Sequence[_Bar], description: str) -> str:
    """Bars with a common zero, name and value above each."""
    row = 42.0
    drawing = canvas(row * len(bars), description)
    scale = Scale(0, max((sum(v for _, v in bar.parts) for bar in bars), default=0) or 1)
    for i, bar in enumerate(bars):
        top = i * row
        strong = " strong" if i == len(bars) - 1 else ""
        add(drawing, "text", bar.name, x="0", y=top + 14, class_=f"label{strong}")
        add(drawing, "text", bar.text, x="100%", y=top + 14, class_=f"label value{strong}", text_anchor="end")
        starts = [0.0, *accumulate(v for _, v in bar.parts)]
        for (css, value), start in zip(bar.parts, starts, strict=False):
            x, width = percent(scale.at(start)), percent(scale.at(start + value) - scale.at(start))
            add(drawing, "rect", x=x, width=width, y=top + 21, height=10, class_=css)
    return markup(drawing)


def latency_bars(report: Report) -> str:
    """Latency of FP32, the high precision, the uniform plans and the plan, the last split by precision."""
    parts = _composition(report, {r.index: r.latency_ms or 0.0 for r in report.group_rows}, report.latency_ms.plan)
    bars = [
        _Bar(v.name, wording.latency_text(v.latency_ms), ((str(v.precision), v.latency_ms),) if v.precision else parts)
        for v in wording.variants(report)
        if v.latency_ms is not None
    ]
    return _horizontal_bars(bars, f"{report.latency_ms.source} latency per batch")


def size_bars(report: Report) -> str:
    """Weight bytes of FP32, the high precision, the uniform plans and the plan, the last split by precision."""
    size = report.size_bytes
    parts = _composition(report, {r.index: float(r.weight_bytes) for r in report.group_rows}, float(size.plan))
    bars = [
        _Bar(
            v.name,
            wording.size_text(v.size_bytes, size.fp32),
            ((str(v.precision), float(v.size_bytes)),) if v.precision else parts,
        )
        for v in wording.variants(report)
        if v.size_bytes is not None
    ]
    return _horizontal_bars(bars, "Size of the weights")


def _composition(report: Report, amounts: Mapping[int, float], total: float) -> tuple[tuple[str, float], ...]:
    """`total` split by the precision that causes it; what no group accounts for is "other"."""
    sums = {p: sum(amounts[r.index] for r in report.group_rows if r.precision is p) for p in Precision}
    known = sum(sums.values())
    shrink = min(1.0, total / known) if known else 0.0
    parts = [(str(p), value * shrink) for p, value in sums.items() if value > 0]
    rest = total - sum(value for _, value in parts)
    return (*parts, ("other", rest)) if rest > 1e-6 * total else tuple(parts)


def share_bar(counts: Mapping[Precision, int]) -> str:
    """One thin bar split by the number of groups in each precision."""
    total = sum(counts.values()) or 1
    text = ", ".join(f"{n} in {p.name}" for p, n in counts.items())
    drawing = canvas(8, f"Groups by precision: {text}")
    starts = [0, *accumulate(counts.values())]
    for (p, n), start in zip(counts.items(), starts, strict=False):
        add(drawing, "rect", x=percent(start / total), width=percent(n / total), y=0, height=8, class_=str(p))
    return markup(drawing)
