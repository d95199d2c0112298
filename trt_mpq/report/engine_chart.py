"""The pictures of what ran on the device: engines side by side, and the layers of the one that is shipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import get_args

from trt_mpq.report.device import engine_name
from trt_mpq.report.layer_split import LayerShare, Purpose, layer_shares, time_split
from trt_mpq.report.svg import Scale, add, canvas, markup, percent
from trt_mpq.report.wording import latency_text, microseconds_text
from trt_mpq.types import Precision
from trt_mpq.types.engine import Candidate, Deployment

_ROW = 42.0
_RIBBON = 36.0
_CROWDED = 60
_SEAM = 0.0005
"""Neighbours overlap by this much of the width, or rounding to pixels opens cracks between them."""
_PURPOSE_CLASSES: Mapping[Purpose, str] = {"reformats": "reformat", "unfused Q/DQ": "unfused", "other": "other"}
"""Style classes of layers that hold no group; the others have their precision's."""


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
        shipped = candidate.name == deployment.decision.shipped
        strong = " strong" if shipped else ""
        name = engine_name(candidate.name).removeprefix("the ") + (", shipped" if shipped else "")
        add(drawing, "text", name, x="0", y=top + 14, class_=f"label{strong}")
        figures = f"{latency_text(spread.median)}, p99 {latency_text(spread.p99)}"
        add(drawing, "text", figures, x="100%", y=top + 14, class_=f"label value{strong}", text_anchor="end")
        median, p99 = percent(scale.at(spread.median)), percent(scale.at(spread.p99))
        add(drawing, "rect", x="0", width=median, y=top + 21, height=10, class_=str(engine_precision(candidate)))
        add(drawing, "line", x1=median, x2=p99, y1=top + 26, y2=top + 26, class_="axis")
        add(drawing, "line", x1=p99, x2=p99, y1=top + 22, y2=top + 30, class_="axis")
    return markup(drawing)


def engine_precision(candidate: Candidate) -> Precision:
    """The precision most groups run in, whose colour stands for the engine."""
    counts = candidate.plan.counts()
    return max(counts, key=lambda precision: counts[precision])


def layer_ribbon(deployment: Deployment, indices: Mapping[str, int]) -> str | None:
    """Layers of the shipped engine in its order, as long as they take; None if they were not timed.

    Args:
        deployment: What the device said.
        indices: Group id to position in the network, which ties layers to the other charts.
    """
    shares = layer_shares(deployment)
    total = sum(share.ms for share in shares)
    if total <= 0:
        return None
    drawing = canvas(_RIBBON, f"Time of each layer of the engine: {_split_text(shares)}")
    scale, dense = Scale(0, total), " dense" if len(shares) > _CROWDED else ""
    marks = add(drawing, "g", class_=f"ribbon{dense}")
    for share, start in zip(shares, _starts(shares), strict=True):
        left, width = percent(scale.at(start)), percent(scale.at(share.ms) + _SEAM)
        data: dict[str, str | float] = {"data_tip": _tip(share, total)}
        if len(share.groups) == 1 and share.groups[0] in indices:
            data["data_group"] = indices[share.groups[0]]
        add(marks, "rect", x=left, width=width, y=0, height=_RIBBON, class_=_share_class(share), **data)
    return markup(drawing)


def _share_class(share: LayerShare) -> str:
    """Style class of a layer: its precision's, or that of its purpose."""
    if share.purpose != "groups":
        return _PURPOSE_CLASSES[share.purpose]
    return "unknown" if share.precision is None else str(share.precision)


def layer_legend(deployment: Deployment) -> list[tuple[str, str, str]]:
    """Name, style class, and time with its share of all layers, of every colour in the ribbon."""
    shares = layer_shares(deployment)
    total = sum(share.ms for share in shares)
    sums: dict[tuple[str, str], float] = {}
    for share in sorted(shares, key=_legend_order):
        key = (_legend_name(share), _share_class(share))
        sums[key] = sums.get(key, 0.0) + share.ms
    return [
        (name, css, f"{microseconds_text(ms)} µs, {100 * ms / total:.0f} %")
        for (name, css), ms in sums.items()
        if total > 0
    ]


def _split_text(shares: tuple[LayerShare, ...]) -> str:
    """Where the time goes in a line: groups 87 %, reformats 9 %, other 4 %."""
    return ", ".join(f"{purpose} {100 * part:.0f} %" for purpose, _, part in time_split(shares))


def _legend_name(share: LayerShare) -> str:
    if share.purpose != "groups":
        return "outside groups" if share.purpose == "other" else share.purpose
    return "groups in unknown precision" if share.precision is None else f"groups in {share.precision.name}"


def _legend_order(share: LayerShare) -> tuple[int, int]:
    precisions = list(Precision)
    within = len(precisions) if share.precision is None else precisions.index(share.precision)
    return get_args(Purpose).index(share.purpose), within


def _starts(shares: Sequence[LayerShare]) -> list[float]:
    return [0.0, *accumulate(share.ms for share in shares)][:-1]


def _tip(share: LayerShare, total: float) -> str:
    runs = f"runs in {share.precision.name}" if share.precision else "precision hidden by TensorRT"
    kind = runs if share.purpose == "groups" else share.purpose
    lines = (share.name, kind, f"{microseconds_text(share.ms)} µs, {100 * share.ms / total:.1f} % of all layers")
    return "\n".join(line.replace("\n", " ") for line in lines)
