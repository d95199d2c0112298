"""Every plan that a search tried, as the page's script reads it: to choose one on the chart and see what it holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from trt_mpq.report import wording
from trt_mpq.report.data import Report, SearchStep
from trt_mpq.types import Precision

if TYPE_CHECKING:
    from markupsafe import Markup


def choices_json(report: Report) -> Markup:
    """The plans as JSON that may stand in a page: none of its characters ends a script.

    `codes` has a letter for the precision of every group, which says its place among `formats`.
    """
    from markupsafe import Markup

    formats = list(Precision)
    plans = {
        step.plan: _tried(number, step, report, formats) for number, step in enumerate(report.search.path, start=1)
    }
    plans[report.plan.digest] = _delivered(report, formats)
    said = {"formats": [precision.value for precision in formats], "plans": list(plans.values())}
    return Markup(json.dumps(said).replace("<", "\\u003c").replace("&", "\\u0026"))


def _tried(number: int, step: SearchStep, report: Report, formats: list[Precision]) -> dict[str, object]:
    score = wording.score_text(step.score, report.accuracy)
    return {
        "digest": step.plan,
        "title": wording.printable(f"{number}. {step.note}"),
        "score": score if step.complete else f"about {score}",
        "verdict": "meets the target" if step.feasible else "misses the target",
        "latency": wording.latency_text(step.latency_ms),
        "size": "" if step.size_bytes is None else wording.size_text(step.size_bytes, report.size_bytes.fp32),
        "energy": "" if step.energy_mj is None else wording.energy_text(step.energy_mj),
        "codes": "".join(_letters(step.precisions, formats)),
        "delivered": False,
    }


def _delivered(report: Report, formats: list[Precision]) -> dict[str, object]:
    accuracy, size = report.accuracy, report.size_bytes
    return {
        "digest": report.plan.digest,
        "title": "The plan that is delivered",
        "score": wording.score_text(accuracy.plan, accuracy),
        "verdict": "meets the target" if accuracy.met_by(accuracy.plan) else "misses the target",
        "latency": wording.latency_text(report.latency_ms.plan),
        "size": wording.size_text(size.plan, size.fp32),
        "energy": wording.energy_text(report.energy_mj.plan) if report.energy_mj else "",
        "codes": "".join(_letters(report.plan.assignments.values(), formats)),
        "delivered": True,
    }


def _letters(precisions: Iterable[Precision], formats: list[Precision]) -> Iterator[str]:
    return (chr(ord("a") + formats.index(precision)) for precision in precisions)
