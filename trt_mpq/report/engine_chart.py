"""The engines that were timed on the device, side by side."""

from __future__ import annotations

from trt_mpq.engine.values import Candidate, Deployment
from trt_mpq.report import device
from trt_mpq.report.svg import Scale, add, canvas, markup, percent
from trt_mpq.report.wording import latency_text

_ROW = 42.0


def engine_bars(deployment: Deployment) -> str | None:
    """A bar to the median GPU compute time of every timed engine, with a whisker to its p99; None if none was timed."""
    timing = deployment.timing
    if timing is None:
        return None
    timed = [candidate for candidate in deployment.candidates if candidate.name in timing.profiles]
    scale = Scale(0, max(timing.profiles[candidate.name].gpu_compute.p99 for candidate in timed))
    drawing = canvas(_ROW * len(timed), "Measured GPU compute time per batch, median and p99")
    for i, candidate in enumerate(timed):
        spread, top = timing.profiles[candidate.name].gpu_compute, i * _ROW
        strong = " strong" if candidate.name == deployment.decision.shipped else ""
        figures = f"{latency_text(spread.median)}, p99 {latency_text(spread.p99)}"
        add(drawing, "text", device.engine_name(candidate), x="0", y=top + 14, class_=f"label{strong}")
        add(drawing, "text", figures, x="100%", y=top + 14, class_=f"label value{strong}", text_anchor="end")
        median, p99 = percent(scale.at(spread.median)), percent(scale.at(spread.p99))
        add(drawing, "rect", x="0", width=median, y=top + 21, height=10, class_=_colour(candidate))
        add(drawing, "line", x1=median, x2=p99, y1=top + 26, y2=top + 26, class_="axis")
        add(drawing, "line", x1=p99, x2=p99, y1=top + 22, y2=top + 30, class_="axis")
    return markup(drawing)


def _colour(candidate: Candidate) -> str:
    """The precision most groups run in."""
    counts = candidate.plan.counts()
    return str(max(counts, key=lambda precision: counts[precision]))
