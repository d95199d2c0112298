"""The report as one self-contained page: no network, no build step, every text escaped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from trt_mpq.report import charts, verdict, wording
from trt_mpq.report.choices import choices_json
from trt_mpq.report.compiler import compiler_text
from trt_mpq.report.data import Report
from trt_mpq.report.device import below_text, device_text, interval_text
from trt_mpq.report.engine_chart import engine_bars, engine_precision, layer_legend, layer_ribbon
from trt_mpq.report.layer_split import group_times, layer_shares
from trt_mpq.report.page import page
from trt_mpq.report.search_chart import search_charts
from trt_mpq.report.tensor_chart import histogram
from trt_mpq.types import OutputComparison, Precision

if TYPE_CHECKING:
    from markupsafe import Markup


def render_html(report: Report) -> str:
    """The page as HTML text; write it as UTF-8."""
    from markupsafe import Markup

    return page(
        "template.html.j2",
        report=report,
        verdict=verdict,
        compiler_text=compiler_text,
        **_on_device(report),
        variants=wording.variants(report),
        narrow=_narrow(report.plan.counts),
        timed=report.has_group_latencies,
        columns=report.sensitivity_precisions,
        precisions=[p for p in Precision if _occurs(p, report)],
        choices=choices_json(report),
        calibrated=[p for p in Precision if any(p in row.amax for row in report.tensors)],
        histograms=[Markup(histogram(row)) if row.bins else None for row in report.tensors],
        searched={name: Markup(picture) for name, picture in search_charts(report).items()},
        pictures=_pictures(report),
    )


def _pictures(report: Report) -> dict[str, Markup | list[tuple[Precision, Markup]] | None]:
    from markupsafe import Markup

    return {
        "ribbon": Markup(charts.network_ribbon(report)),
        "latency": Markup(charts.latency_bars(report)),
        "size": Markup(charts.size_bars(report)),
        **_device_pictures(report),
        "share": Markup(charts.share_bar(report.plan.counts)),
        "sensitivity": [(p, Markup(charts.sensitivity_bars(report, p))) for p in report.sensitivity_precisions],
    }


def _device_pictures(report: Report) -> dict[str, Markup | list[tuple[Precision, Markup]] | None]:
    from markupsafe import Markup

    deployment = report.device
    if deployment is None:
        return {}
    indices = {row.id: row.index for row in report.group_rows}
    bars, layers = engine_bars(deployment), layer_ribbon(deployment, indices)
    shipped = deployment.shipped
    return {
        "engines": None if bars is None else Markup(bars),
        "layers": None if layers is None else Markup(layers),
        "shipped_share": None if shipped is None else Markup(charts.share_bar(shipped.plan.counts())),
    }


def _on_device(report: Report) -> dict[str, object]:
    """What the templates need to know of the device beside the deployment itself."""
    deployment = report.device
    if deployment is None:
        return {"realised": {}, "group_ms": {}}
    shipped, timing = deployment.shipped, deployment.timing
    timed = [c for c in deployment.candidates if timing and c.name in timing.profiles]
    dominant = {engine_precision(candidate) for candidate in timed}
    return {
        "said": device_text(deployment),
        "below_text": below_text,
        "interval_text": interval_text,
        "shipped_narrow": 0 if shipped is None else _narrow(shipped.plan.counts()),
        "engine_precisions": [p for p in Precision if p in dominant],
        "layer_legend": layer_legend(deployment),
        "realised": {group.group: group for group in deployment.realised.groups} if deployment.realised else {},
        "group_ms": group_times(layer_shares(deployment)),
        "reference_outputs": _reference_outputs(report),
    }


def _reference_outputs(report: Report) -> dict[str, OutputComparison]:
    """Output name to the reference's figures, empty unless the engine runs the plan they are of."""
    deployment, reference = report.device, report.comparison
    if deployment is None or deployment.shipped is None or reference is None:
        return {}
    same = deployment.shipped.plan.digest == report.plan.digest
    return {output.output: output for output in reference.outputs} if same else {}


def _narrow(counts: Mapping[Precision, int]) -> int:
    return sum(n for p, n in counts.items() if p.quantized)


def _occurs(precision: Precision, report: Report) -> bool:
    """Whether `precision` has a colour somewhere on the page; FP32 and the high precision always have, as baselines."""
    known = {Precision.FP32, report.baseline, *report.plan.counts, *report.search.ladder}
    return precision in known
