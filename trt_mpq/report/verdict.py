"""The verdict: what is shipped if engines were built, and what the search found.

What a device measured comes first. The latencies that the search went by are never called anything but what they are.
"""

from __future__ import annotations

from collections.abc import Iterator

from trt_mpq.engine.decide import PLAN
from trt_mpq.report.compiler import compiler_text
from trt_mpq.report.data import AccuracyFigures, Report
from trt_mpq.report.device import device_text, engine_name
from trt_mpq.report.wording import (
    MISSING,
    below_text,
    latency_text,
    loss_text,
    mac_share_text,
    score_text,
    share_text,
    size_text,
    variants,
)
from trt_mpq.types import Precision
from trt_mpq.types.compilation import Compilation


def title(report: Report) -> str:
    """What a window shows: the placement, or what is shipped instead."""
    if report.device is None or report.device.decision.shipped == PLAN:
        return _placement(report)
    shipped = report.device.decision.shipped
    return "nothing shipped" if shipped is None else f"{engine_name(shipped)} shipped"


def lead(report: Report) -> str:
    """The verdict as one sentence: the measured truth if there is one, else what the search found."""
    return searched(report) if report.device is None else f"{device_text(report.device).outcome}."


def headline(report: Report) -> tuple[str, ...]:
    """What the search found in five parts: placement, arithmetic, score, latency, size."""
    accuracy, latency, size = report.accuracy, report.latency_ms, report.size_bytes
    scores = [score_text(s, accuracy) for s in (accuracy.plan, accuracy.fp32, accuracy.target)]
    baseline_ms = latency.of(report.baseline)
    against = f", {below_text(latency.plan, baseline_ms, report.baseline.name)}" if baseline_ms else ""
    sizes = [size_text(b, size.fp32) for b in (size.plan, size.fp32)]
    return (
        _placement(report),
        mac_share_text(report),
        f"{accuracy.metric} {scores[0]} (FP32 {scores[1]}, required {scores[2]}{_loss(accuracy)})",
        f"{latency.source} latency {latency_text(latency.plan)}{against}",
        f"size {sizes[0]} (FP32 {sizes[1]})",
    )


def _loss(accuracy: AccuracyFigures) -> str:
    if accuracy.loss is None:
        return ""
    loss, reach = (loss_text(value, accuracy) for value in (accuracy.loss.loss, accuracy.loss.half_width))
    return f", loss {loss.removesuffix(' points')} ± {reach}"


def searched(report: Report) -> str:
    """What the search found as one sentence without absolute numbers, for a page that shows those beside it."""
    accuracy, latency = report.accuracy, report.latency_ms
    parts = [_placement(report)]
    if baseline_ms := latency.of(report.baseline):
        against = below_text(latency.plan, baseline_ms, report.baseline.name)
        parts.append(f"{latency.source} latency {against}")
    share = share_text(accuracy.plan, accuracy.fp32)
    if share != MISSING:
        parts.append(f"{share} of the FP32 {accuracy.metric}")
    text = ", ".join(parts) + "."
    return text[0].upper() + text[1:]


def remarks(report: Report) -> tuple[str, ...]:
    """What the verdict must not leave unsaid: a trivial result, a missed target, a plan that is not shipped."""
    said = [
        *report.data_faults,
        *_on_holdout(report),
        *_shipped_instead(report),
        *_engine_missing_target(report),
        *_far_from_fp32(report),
    ]
    if not report.accuracy.met_by(report.accuracy.plan):
        said.append(_missed(report))
    elif trivial := _trivial(report):
        said.append(trivial)
    if not report.plan.deployable:
        said.append("For study only: TensorRT has no kernels for this plan, so no engine can be built from it.")
    if report.compilation:
        said += compiled(report.compilation)
    return (*said, *(device_text(report.device).cautions if report.device else ()))


def compiled(compilation: Compilation) -> tuple[str, ...]:
    """What NVIDIA's compiler made of the network, in sentences."""
    text = compiler_text(compilation)
    return (f"{text.outcome}.", *(f"{remark}." for remark in text.remarks))


def _on_holdout(report: Report) -> Iterator[str]:
    """What the plan scores on data that nothing was chosen on."""
    if (holdout := report.accuracy.holdout) is not None:
        plan, fp32, required = (
            score_text(score, report.accuracy) for score in (holdout.plan.value, holdout.fp32.value, holdout.required)
        )
        outcome = "keeps" if holdout.kept else "misses"
        yield f"On the holdout set the plan {outcome} the target: {plan} (FP32 {fp32}, required {required})."


def _placement(report: Report) -> str:
    """How many groups the plan puts in which narrow precision."""
    counts = report.plan.counts
    narrow = [p for p in Precision if p.quantized and counts.get(p)]
    nothing = "" if narrow else "nothing is quantized: "
    if len(counts) == 1:
        (only,) = counts
        groups = "the only group runs" if report.groups == 1 else f"all {report.groups} groups run"
        return f"{nothing}{groups} in {only.name}"
    if not narrow:
        return nothing + ", ".join(f"{count} groups run in {precision.name}" for precision, count in counts.items())
    first, *others = (f"{counts[p]} of {report.groups} groups in {p.name}" for p in narrow)
    return ", ".join([first, *(text.replace(f" of {report.groups} groups", "") for text in others)])


def _missed(report: Report) -> str:
    if report.search.limit:
        return f"The plan scores below the accuracy target, which {report.search.limit} does not enforce."
    return "The plan does not reach the required score."


def _shipped_instead(report: Report) -> list[str]:
    """What is shipped where it is not the plan that the search chose."""
    engine = report.device.shipped if report.device else None
    if engine is None or engine.plan.digest == report.plan.digest:
        return []
    if engine.name == PLAN:
        planned = report.plan.assignments
        mended = [group for group, precision in engine.plan.assignments if planned[group] is not precision]
        return [
            f"The engine has {', '.join(mended)} in {report.baseline.name}: `trt-mpq bisect` found that it computes "
            "something else there than the plan says."
        ]
    if engine.name == report.baseline.value:
        high = report.baseline.name
        return [f"The plan below is what the search chose; the engine that is shipped runs every group in {high}."]
    return [f"The plan below is what the search chose; the engine that is shipped is {engine_name(engine.name)}."]


def _engine_missing_target(report: Report) -> list[str]:
    score = report.device.score if report.device else None
    if score is None or report.accuracy.target is None or report.accuracy.met_by(score.value):
        return []
    scores = (score_text(value, report.accuracy) for value in (score.value, report.accuracy.target))
    return [f"Through the engine the {report.accuracy.metric} is {', below the required '.join(scores)}."]


def _far_from_fp32(report: Report) -> Iterator[str]:
    """Which outputs fail Polygraphy's comparison."""
    compared = {"typed.onnx": report.comparison, "The engine": report.device.comparison if report.device else None}
    for what, comparison in compared.items():
        if comparison is not None and comparison.failed:
            yield f"{what} fails the comparison with FP32: {'; '.join(map(str, comparison.failed))}."


def _unquantized(report: Report, precision: Precision) -> str:
    """Why a plan quantizes nothing: what keeps most of the arithmetic out of 8 bit, or that nothing else was found."""
    if report.multiply_adds and not report.sensitivity_precisions:
        most = max(report.multiply_adds, key=lambda part: part.multiply_adds)
        return f"No group may run in 8 bit; {most.share:.0%} of the multiply-adds stay out because of: {most.reason}."
    return f"Nothing narrower than {precision.name} was found to meet the target."


def not_done(report: Report) -> tuple[str, ...]:
    """What was not done beside what the device section says itself."""
    said = report.device.notes if report.device else ()
    return tuple(text for text in report.not_done if text not in said)


def _uniform_equivalent(report: Report) -> Precision | None:
    """The precision whose uniform plan is the chosen plan, groups that cannot run in it aside; else None."""
    if len(report.plan.counts) == 1:
        return next(iter(report.plan.counts))
    *others, plan = variants(report)
    for other in others[2:]:
        same = (other.score, other.latency_ms, other.size_bytes) == (plan.score, plan.latency_ms, plan.size_bytes)
        if same and other.precision in report.plan.counts:
            return other.precision
    return None


def _trivial(report: Report) -> str | None:
    precision = _uniform_equivalent(report)
    if precision is None:
        return None
    if not precision.quantized:
        return _unquantized(report, precision)
    out = report.groups - report.plan.counts[precision]
    rest = "" if out == 0 else f" ({out} {'group' if out == 1 else 'groups'} cannot run in it)"
    return f"Uniform {precision.name} already meets the target{rest}, so the search had nothing to give back."
