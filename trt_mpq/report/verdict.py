"""The verdict: what is shipped if engines were built, and what the search found.

What a device measured comes first. The latencies that the search went by are never called anything but what they are.
"""

from __future__ import annotations

from trt_mpq.engine.decide import PLAN
from trt_mpq.report import device
from trt_mpq.report.data import Report
from trt_mpq.report.wording import (
    MISSING,
    below_text,
    label,
    latency_text,
    mac_share_text,
    meets_target,
    placement,
    score_text,
    share_text,
    size_text,
    uniform_equivalent,
)
from trt_mpq.types.engine import Candidate


def title(report: Report) -> str:
    """What a window shows: the placement, or what is shipped instead."""
    if report.device is None or report.device.decision.shipped == PLAN:
        return placement(report)
    shipped = report.device.decision.shipped
    return "nothing shipped" if shipped is None else f"{device.engine_name(shipped)} shipped"


def lead(report: Report) -> str:
    """The verdict as one sentence: the measured truth if there is one, else what the search found."""
    return searched(report) if report.device is None else f"{device.shipped_text(report.device)}."


def headline(report: Report) -> tuple[str, ...]:
    """What the search found in five parts: placement, arithmetic, score, latency, size."""
    accuracy, latency, size = report.accuracy, report.latency_ms, report.size_bytes
    scores = [score_text(s, accuracy) for s in (accuracy.plan, accuracy.fp32, accuracy.target)]
    baseline_ms = latency.of(report.baseline)
    against = f", {below_text(latency.plan, baseline_ms, label(report.baseline))}" if baseline_ms else ""
    sizes = [size_text(b, size.fp32) for b in (size.plan, size.fp32)]
    return (
        placement(report),
        mac_share_text(report),
        f"{accuracy.metric} {scores[0]} (FP32 {scores[1]}, required {scores[2]})",
        f"{latency.source} latency {latency_text(latency.plan)}{against}",
        f"size {sizes[0]} (FP32 {sizes[1]})",
    )


def searched(report: Report) -> str:
    """What the search found as one sentence without absolute numbers, for a page that shows those beside it."""
    accuracy, latency = report.accuracy, report.latency_ms
    parts = [placement(report)]
    if baseline_ms := latency.of(report.baseline):
        against = below_text(latency.plan, baseline_ms, label(report.baseline))
        parts.append(f"{latency.source} latency {against}")
    share = share_text(accuracy.plan, accuracy.fp32)
    if share != MISSING:
        parts.append(f"{share} of the FP32 {accuracy.metric}")
    text = ", ".join(parts) + "."
    return text[0].upper() + text[1:]


def remarks(report: Report) -> tuple[str, ...]:
    """What the verdict must not leave unsaid: a trivial result, a missed target, a plan that is not shipped."""
    said = [*_shipped_instead(report), *_engine_missing_target(report)]
    if not meets_target(report.accuracy.plan, report):
        said.append(_missed(report))
    elif trivial := _trivial(report):
        said.append(trivial)
    if not report.plan.deployable:
        said.append("For study only: TensorRT has no kernels for this plan, so no engine can be built from it.")
    return (*said, *(device.cautions(report.device) if report.device else ()))


def _missed(report: Report) -> str:
    if report.search.limit:
        return f"The plan scores below the accuracy target, which {report.search.limit} does not enforce."
    return "The plan does not reach the required score."


def _shipped_instead(report: Report) -> list[str]:
    """What is shipped where it is not the plan that the search chose."""
    engine = report.device.shipped if report.device else None
    if engine is None or engine.name == PLAN or engine.plan.digest == report.plan.digest:
        return []
    if engine.name == report.baseline.value:
        high = label(report.baseline)
        return [f"The plan below is what the search chose; the engine that is shipped runs every group in {high}."]
    return [
        f"The plan below is what the search chose; the engine that is shipped is {device.engine_name(engine.name)}."
    ]


def _engine_missing_target(report: Report) -> list[str]:
    score = report.device.score if report.device else None
    if score is None or report.accuracy.target is None or meets_target(score.value, report):
        return []
    scores = (score_text(value, report.accuracy) for value in (score.value, report.accuracy.target))
    return [f"Through the engine the {report.accuracy.metric} is {', below the required '.join(scores)}."]


def reference_score(report: Report, candidate: Candidate) -> float | None:
    """Score of a candidate in the reference runtime on the whole evaluation set, None if it was never scored so."""
    accuracy = report.accuracy
    if candidate.name == PLAN:
        return accuracy.plan
    if candidate.name == report.baseline.value:
        return accuracy.of(report.baseline)
    uniform = (score for precision, score in accuracy.uniform.items() if precision.value == candidate.name)
    digest = candidate.plan.digest
    whole = (step.score for step in report.search.path if step.plan == digest and step.complete)
    return next(uniform, next(whole, None))


def not_done(report: Report) -> tuple[str, ...]:
    """What was not done beside what the device section says itself."""
    said = report.device.notes if report.device else ()
    return tuple(text for text in report.not_done if text not in said)


def _trivial(report: Report) -> str | None:
    precision = uniform_equivalent(report)
    if precision is None:
        return None
    if not precision.quantized:
        return f"Nothing narrower than {label(precision)} was found to meet the target."
    out = report.groups - report.plan.counts[precision]
    rest = "" if out == 0 else f" ({out} {'group' if out == 1 else 'groups'} cannot run in it)"
    return f"Uniform {label(precision)} already meets the target{rest}, so the search had nothing to give back."
