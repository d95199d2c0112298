"""The verdict: what is shipped if engines were built, and what the search found.

What a device measured comes first. The latencies that the search went by are never called anything but what they are.
"""

from __future__ import annotations

from collections.abc import Iterator

from trt_mpq.engine.decide import PLAN
from trt_mpq.evaluate.score_scale import score_scale
from trt_mpq.report.compiler import compiler_text
from trt_mpq.report.data import AccuracyFigures, Report, SizeFigures
from trt_mpq.report.device import device_text, engine_name
from trt_mpq.report.wording import (
    against_text,
    below_text,
    energy_text,
    has_shares,
    latency_text,
    mac_share_text,
    ratio_error,
    scale_of,
    score_text,
    share_text,
    size_text,
    time_error,
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
    """What the search found in parts: placement, arithmetic, score, latency, size, energy if that was looked for."""
    accuracy, latency, size = report.accuracy, report.latency_ms, report.size_bytes
    against = against_text(latency, report.baseline)
    sizes = [size_text(b, size.fp32) for b in (size.plan, size.fp32)]
    return (
        _placement(report),
        mac_share_text(report),
        f"{accuracy.metric} {score_text(accuracy.plan, accuracy)} ({', '.join(_beside_score(accuracy))})",
        f"{latency.source} latency {latency_text(latency.plan)}{time_error(latency.error)}{against and f', {against}'}",
        f"weights {sizes[0]} (FP32 {sizes[1]}){_file(size)}",
        *_energy(report),
    )


def _energy(report: Report) -> Iterator[str]:
    if report.energy_mj is not None and report.search.objective == "energy":
        beside = report.energy_mj.of(report.baseline)
        against = "" if beside is None else f", {below_text(report.energy_mj.plan, beside, report.baseline.name)}"
        yield f"modelled energy {energy_text(report.energy_mj.plan)} a batch{against}"


def _beside_score(accuracy: AccuracyFigures) -> Iterator[str]:
    """What the score of the plan is to be read against; outputs of FP32 have no noise to tell."""
    is_noise = scale_of(accuracy).is_noise
    if not is_noise:
        yield f"FP32 {score_text(accuracy.fp32, accuracy)}"
    yield f"required {score_text(accuracy.target, accuracy)}"
    if accuracy.loss is not None and not is_noise:
        scale = scale_of(accuracy)
        yield f"loss {scale.bare_loss(accuracy.loss.loss)} ± {scale.loss(accuracy.loss.half_width)}"


def _file(size: SizeFigures) -> str:
    """How large the file is, whose graph and scales come on top of the weights."""
    return "" if size.file is None else f", typed.onnx {size_text(size.file, size.fp32)}"


def searched(report: Report) -> str:
    """What the search found as one sentence without absolute numbers, for a page that shows those beside it."""
    accuracy, latency = report.accuracy, report.latency_ms
    parts = [_placement(report)]
    if against := against_text(latency, report.baseline):
        parts.append(f"{latency.source} latency {against}")
    if has_shares(report):
        parts.append(f"{share_text(accuracy.plan, accuracy)} of the FP32 {accuracy.metric}")
    elif accuracy.plan is not None:
        parts.append(f"{accuracy.metric} {score_text(accuracy.plan, accuracy)} against FP32")
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
    said += _faster_fp32(report)
    said += _about_equal(report)
    if report.search.objective != "latency":
        said.append(f"The search looked for the least {report.search.objective}, not for the fastest plan.")
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
        values = (holdout.plan.value, holdout.fp32.value, holdout.required)
        plan, fp32, required = map(score_scale(report.accuracy.metric, values, holdout.required).text, values)
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
    scores = map(scale_of(report.accuracy, score.value).text, (score.value, report.accuracy.target))
    return [f"Through the engine the {report.accuracy.metric} is {', below the required '.join(scores)}."]


def _far_from_fp32(report: Report) -> Iterator[str]:
    """Which outputs fail Polygraphy's comparison."""
    ours, engine = report.comparison, report.device.comparison if report.device else None
    for what, comparison in ((ours.file if ours else "", ours), ("The engine", engine)):
        if comparison is not None and comparison.failed:
            yield f"{what} fails the comparison with FP32: {'; '.join(map(str, comparison.failed))}."


def _unquantized(report: Report, precision: Precision) -> str:
    """Why a plan quantizes nothing: what keeps most of the arithmetic out of 8 bit, or that nothing else was found."""
    tried = any(p.quantized for step in report.search.path for p in step.counts)
    kept_out = report.multiply_adds and all(part.reason for part in report.multiply_adds)
    if kept_out and not report.sensitivity_precisions and not tried:
        most = max(report.multiply_adds, key=lambda part: part.multiply_adds)
        return f"No group may run in 8 bit; {most.share:.0%} of the multiply-adds stay out because of: {most.reason}."
    return _not_faster(report, precision) or f"Nothing narrower than {precision.name} was found to meet the target."


def _not_faster(report: Report, precision: Precision) -> str:
    """What meets the target in 8 bit or less without being faster than `precision`; empty if nothing does."""
    uniform = [v.name for v in variants(report) if v.precision is not None and v.precision.quantized and v.meets]
    mixed = [step for step in report.search.path if step.feasible and any(p.quantized for p in step.counts)]
    what = " and ".join(uniform) or (f"{len(mixed)} of the plans tried in 8 bit" if mixed else "")
    if not what:
        return ""
    meets, is_ = ("meet", "are") if " and " in what or (len(mixed) > 1 and not uniform) else ("meets", "is")
    text = f"{what} {meets} the target, but {is_} not faster than {precision.name} ({report.latency_ms.source})."
    return text[0].upper() + text[1:]


def _faster_fp32(report: Report) -> Iterator[str]:
    """That the model as given is faster, which happens where conversions of inputs and outputs outweigh the work."""
    latency = report.latency_ms
    if latency.fp32 is None or latency.fp32 >= latency.plan or not latency.tells(latency.fp32, latency.plan):
        return
    if report.plan.deployable:
        fp32, plan = (latency_text(ms, latency.plan) for ms in (latency.fp32, latency.plan))
        yield f"The model as given, in FP32, is faster than any plan ({fp32} against {plan}, {latency.source})."


def _about_equal(report: Report) -> Iterator[str]:
    """That the model cannot tell whether a plan that lowers groups gains anything."""
    latency = report.latency_ms
    baseline_ms, lowered = latency.of(report.baseline), any(p.quantized for p in report.plan.counts)
    if baseline_ms and latency.error and lowered and not latency.tells(latency.plan, baseline_ms):
        yield (
            f"About as fast as {report.baseline.name}: on {latency.device} the model of latencies is right within"
            f"{ratio_error(latency.error).replace('± ', '')}, so only a device can tell which is faster."
        )


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
