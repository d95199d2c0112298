"""The report as one self-contained page: no network, no build step, every text escaped."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from trt_mpq.report import charts, device, wording
from trt_mpq.report.data import Report
from trt_mpq.report.engine_chart import engine_bars
from trt_mpq.report.search_chart import search_chart
from trt_mpq.types import Precision

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_UNIT = re.compile(r"(?<=\d) (?=[%GMkmsµ])")


def render_html(report: Report) -> str:
    """The page as HTML text; write it as UTF-8.

    A Content-Security-Policy in the page forbids every fetch and every script but its own, so that even a
    group name that got past the escaping could do nothing.
    """
    from markupsafe import Markup

    style, script = Markup(_asset("style.css")), Markup(_asset("page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = _environment().get_template("template.html.j2")
    return template.render(
        report=report,
        wording=wording,
        device=device,
        variants=wording.variants(report),
        narrow=sum(n for p, n in report.plan.counts.items() if p.quantized),
        timed=charts.has_group_latencies(report),
        columns=wording.sensitivity_columns(report),
        precisions=[p for p in Precision if _occurs(p, report)],
        pictures=_pictures(report),
        style=style,
        script=script,
        script_hash=f"sha256-{digest}",
    )


def _pictures(report: Report) -> dict[str, Markup | list[tuple[Precision, Markup]] | None]:
    from markupsafe import Markup

    columns = wording.sensitivity_columns(report)
    return {
        "ribbon": Markup(charts.network_ribbon(report)),
        "search": Markup(search_chart(report)),
        "latency": Markup(charts.latency_bars(report)),
        "size": Markup(charts.size_bars(report)),
        "engines": Markup(bars) if report.device and (bars := engine_bars(report.device)) else None,
        "share": Markup(charts.share_bar(report.plan.counts)),
        "sensitivity": [(p, Markup(charts.sensitivity_bars(report, p))) for p in columns],
    }


def _occurs(precision: Precision, report: Report) -> bool:
    """Whether `precision` has a colour somewhere on the page; FP32 and FP16 always have, as baselines."""
    known = {Precision.FP32, Precision.FP16, *report.plan.counts, *report.search.ladder}
    return precision in known


@cache
def _asset(name: str) -> str:
    return files("trt_mpq.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("trt_mpq.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_clean,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(tight=_tight, capitalized=_capitalized, breakable=_breakable, prose=_prose)
    return environment


def _clean(value: object) -> object:
    """What a template prints: plain text loses control characters, markup made here is left alone."""
    return wording.printable(value) if type(value) is str else value


def _tight(text: object) -> str:
    """`text` with no-break spaces between numbers and units."""
    return _UNIT.sub("\u00a0", str(text))


def _breakable(name: str) -> Markup:
    """A graph name that may be broken after its separators."""
    from markupsafe import Markup

    return Markup("<wbr>").join(re.split(r"(?<=[/.:_])(?=[^/.:_])", wording.printable(name)))


def _prose(text: str) -> Markup:
    """A sentence whose `quoted` parts are commands or names."""
    from markupsafe import Markup, escape

    parts = wording.printable(text).split("`")
    if len(parts) % 2 == 0:
        return escape("`".join(parts))
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(parts))


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]
