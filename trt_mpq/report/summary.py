"""From the values of a run's stages to the figures, reasons and warnings of its report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from math import isfinite, log2

from trt_mpq.calibrate.own_scales import smaller_operands
from trt_mpq.emit.deliver import Delivery
from trt_mpq.evaluate.interval import Holdout, LossInterval
from trt_mpq.evaluate.score_scale import score_texts
from trt_mpq.groups.scales import LEAST_SCALE_RATIO, OWN_SCALE_RATIO
from trt_mpq.latency.base import KernelCosts, Latency
from trt_mpq.latency.size import stored_bits, weight_bytes
from trt_mpq.report import data
from trt_mpq.report.explain import Explainer
from trt_mpq.report.wording import latency_text, scale_of, time_error
from trt_mpq.runtime.user_code import title_of
from trt_mpq.settings import Settings
from trt_mpq.types import (
    DeliveredScores,
    Grouping,
    LayerGroup,
    Model,
    Precision,
    PrecisionPlan,
    Ranges,
    Ranking,
    Score,
    SearchResult,
    TensorRange,
)
from trt_mpq.types.compilation import Compilation

Sizes = Callable[[PrecisionPlan], int]
"""Bytes of the weights of a plan."""


def limiting_option(settings: Settings) -> str | None:
    """The option that set another target than accuracy, None if none did."""
    given = {"--target-latency": settings.target_latency, "--target-size": settings.target_size}
    return next((option for option, value in given.items() if value is not None), None)


def accuracy_figures(
    result: SearchResult,
    grouping: Grouping,
    fp32: Score,
    *,
    required: float,
    fraction: float | None,
    metric: str,
    samples: int,
    loss: LossInterval | None = None,
    holdout: Holdout | None = None,
    file: Score | None = None,
) -> data.AccuracyFigures:
    """Scores of the plan, of FP32 and of the uniform plans that the search measured on every sample.

    Args:
        result: What was found.
        grouping: The groups.
        fp32: Score of the original model.
        required: Least score of a plan.
        fraction: The same as a share of the score of FP32; None if it was asked for as a loss.
        metric: Task metric.
        samples: Samples of the evaluation set.
        loss: What the plan loses, with its interval.
        holdout: Scores on data that nothing was chosen on.
        file: Score of the typed file.
    """
    scores = {tried.plan: tried.score.value for tried in result.path if tried.complete}
    uniform = {p: scores.get(grouping.uniform(p)) for p in result.ladder}
    chosen = result.chosen.score
    return data.AccuracyFigures(
        metric=title_of(metric),
        target=required,
        target_fraction=fraction,
        samples=samples,
        fp32=fp32.value,
        fp16=uniform.get(Precision.FP16),
        plan=chosen.value,
        fp32_stderr=fp32.stderr,
        plan_stderr=chosen.stderr,
        uniform=uniform,
        loss=loss,
        holdout=holdout,
        file=file.value if file else None,
    )


def latency_figures(
    result: SearchResult, grouping: Grouping, latency: Latency, batch: int, price: float | None = None
) -> data.LatencyFigures:
    """What the search went by for the plan, FP32 and the uniform plans."""
    uniform = {p: latency.plan_ms(grouping.uniform(p)) for p in result.ladder}
    fp32 = _fp32_plan(grouping)
    return data.LatencyFigures(
        source=latency.source,
        device=latency.device,
        batch=batch,
        fp32=latency.plan_ms(fp32) if latency.knows(fp32) else None,
        fp16=uniform.get(Precision.FP16),
        plan=result.chosen.latency_ms,
        uniform=uniform,
        error=latency.error,
        price_per_hour=price,
    )


def energy_figures(
    result: SearchResult, grouping: Grouping, latency: Latency, energy: KernelCosts | None
) -> data.EnergyFigures | None:
    """The same of energy, None where nothing is known of it."""
    if energy is None:
        return None
    uniform = {p: energy.plan_cost(grouping.uniform(p)) for p in result.ladder}
    fp32 = _fp32_plan(grouping)
    return data.EnergyFigures(
        fp32=energy.plan_cost(fp32) if latency.knows(fp32) else None,
        fp16=uniform.get(Precision.FP16),
        plan=energy.plan_cost(result.chosen.plan),
        uniform=uniform,
    )


def size_figures(result: SearchResult, grouping: Grouping, model: Model, file: int) -> data.SizeFigures:
    """Bytes of all parameters in the plan, in FP32 and in the uniform plans; `file` is what typed.onnx has."""
    other = model.parameters - grouping.weight_elements
    uniform = {p: weight_bytes(grouping.uniform(p), grouping, other) for p in result.ladder}
    return data.SizeFigures(
        fp32=weight_bytes(_fp32_plan(grouping), grouping, other),
        fp16=uniform.get(Precision.FP16),
        plan=weight_bytes(result.chosen.plan, grouping, other),
        uniform=uniform,
        file=file,
    )


def search_record(
    result: SearchResult,
    ranking: Ranking,
    settings: Settings,
    samples: int,
    seconds: float,
    sizes: Sizes,
    energy: KernelCosts | None = None,
) -> data.SearchRecord:
    """The cost of sensitivity and search; calibration and refinement, which every search shares, are left out.

    Args:
        result: What was found.
        ranking: What the search went by.
        settings: What was asked for.
        samples: Samples of the evaluation set.
        seconds: What the ranking and all evaluations took.
        sizes: Bytes of the weights of a plan.
        energy: Millijoules of a plan; None where nothing is known of them.
    """
    return data.SearchRecord(
        algorithm=result.algorithm,
        sensitivity=ranking.metric,
        unranked=result.unranked,
        evaluations=len(result.path),
        full_equivalents=round((result.samples_run + ranking.forward_passes) / samples, 3),
        seconds=round(seconds, 3),
        ladder=result.ladder,
        stopped=result.stopped,
        limit=limiting_option(settings),
        path=tuple(
            data.SearchStep(
                note=e.note,
                score=e.score.value,
                stderr=e.score.stderr,
                samples=e.score.samples,
                latency_ms=e.latency_ms,
                feasible=e.feasible,
                counts=e.plan.counts(),
                plan=e.plan.digest,
                complete=e.complete,
                delivered=e.delivered.value if e.delivered else None,
                precisions=tuple(precision for _, precision in e.plan.assignments),
                size_bytes=sizes(e.plan),
                energy_mj=energy.plan_cost(e.plan) if energy else None,
            )
            for e in result.path
        ),
        confidence=settings.confidence,
        gap=result.gap,
        objective=settings.objective,
    )


def plan_sizes(grouping: Grouping, model: Model) -> Sizes:
    """What the weights of any plan take, in bytes."""
    other = model.parameters - grouping.weight_elements
    return lambda plan: weight_bytes(plan, grouping, other)


def tensor_rows(grouping: Grouping, ranges: Ranges) -> tuple[data.TensorRow, ...]:
    """Every tensor that groups quantize, in network order."""
    readers: dict[str, list[int]] = defaultdict(list)
    for group in grouping.groups:
        for site in group.inputs:
            readers[site.tensor].append(group.index)
    return tuple(_tensor_row(name, groups, ranges.tensors[name]) for name, groups in readers.items())


def _tensor_row(name: str, groups: list[int], observed: TensorRange) -> data.TensorRow:
    beyond = {precision: observed.share_beyond(amax) for precision, amax in observed.amax.items()}
    return data.TensorRow(
        name, tuple(dict.fromkeys(groups)), observed.minimum, observed.maximum, observed.amax,
        {precision: share for precision, share in beyond.items() if share is not None}, observed.bins,
        observed.methods,
    )  # fmt: skip


def group_rows(explainer: Explainer, operators: Mapping[str, str]) -> tuple[data.GroupRow, ...]:
    """Every group with its precision and the reason for it; `operators` maps nodes to their operators."""
    plan, grouping, latency = explainer.result.chosen.plan, explainer.grouping, explainer.latency
    top, precisions = grouping.top, plan.as_dict()
    chosen, baseline = latency.group_ms(plan), latency.group_ms(grouping.uniform(top))
    bits = stored_bits(plan, grouping)
    return tuple(
        data.GroupRow(
            id=group.id,
            index=group.index,
            op_type=group.op_type,
            followers=tuple(operators[name] for name in group.nodes[1:]),
            weight_shapes=tuple(weight.shape for weight in group.weights),
            precision=precisions[group.id],
            reason=explainer.reason(group),
            sensitivity=_sensitivity(explainer.ranking, group),
            flops=group.flops,
            weight_bytes=bits[group.id] // 8,
            latency_ms=chosen[group.id],
            fp16_latency_ms=baseline[group.id] if top is Precision.FP16 else None,
            bf16_latency_ms=baseline[group.id] if top is Precision.BF16 else None,
        )
        for group in grouping.groups
    )


def file_warnings(explainer: Explainer, delivery: Delivery, files: DeliveredScores, required: float) -> Iterator[str]:
    """What the user should know about the files of the plan.

    Args:
        explainer: Explains the plan.
        delivery: What was written.
        files: Scores of the files.
        required: Least score of a plan.
    """
    chosen, grouping = explainer.result.chosen, explainer.grouping
    if not delivery.deployable:
        yield "INT4 is for study: TensorRT has no 4-bit convolution or activations, so no engine can hold this plan"
    if not delivery.portable:
        yield (
            "typed.onnx holds operators of NVIDIA's domain `trt`, which ONNX Runtime does not know: what is scored and "
            "compared is reference.onnx, which computes the same in FP32 arithmetic"
        )
    yield from _pinned_below(grouping)
    if missed := _missed(files.typed, explainer, required):
        uniform = f", but it is uniform {grouping.top.name}, which is what there is without a search"
        kept = uniform if chosen.plan == grouping.uniform(grouping.top) else ""
        yield f"typed.onnx in ONNX Runtime {missed}{kept}"
    if missed := _missed(files.weak, explainer, required):
        yield f"weak.onnx in ONNX Runtime {missed}: build no engine with TensorRT 8.6 from it"
    widened = chosen.plan.counts().get(Precision.BF16, 0)
    if widened and delivery.weak_missing is None:
        groups = "1 group" if widened == 1 else f"{widened} groups"
        yield f"weak.onnx has {groups} of the plan in FP32 in place of BF16, which TensorRT 8.6 does not have"
    if delivery.weak_missing is not None:
        yield f"no weak.onnx was written: {delivery.weak_missing}"


def _pinned_below(grouping: Grouping) -> Iterator[str]:
    """That what everything is compared with has groups in 8 bit or less too, because the user pins them there."""
    if below := [group for group in grouping.groups if grouping.widest(group).quantized]:
        some = (
            f"1 group of {len(grouping.groups)}"
            if len(below) == 1
            else f"{len(below)} of {len(grouping.groups)} groups"
        )
        yield f"--keep pins {some} to 8 bit or less, in what is called {grouping.top.name} here too"


def _missed(file: Score | None, explainer: Explainer, required: float) -> str:
    """That a file misses what the plan keeps; empty where it does not, or there is none."""
    if file is None or not file.value < required <= explainer.result.chosen.score.value:
        return ""
    scored, least = score_texts(explainer.metric, (file.value, required))
    return f"scores {scored}, less than the required {least}, which the plan keeps"


def refusal_warnings(compilation: Compilation | None, result: SearchResult, latency: Latency) -> Iterator[str]:
    """What it costs that NVIDIA's compiler does not take the plan that was searched."""
    if compilation is not None and compilation.raised:
        now = result.chosen.latency_ms
        before = latency.plan_ms(result.chosen.plan.replace(compilation.raised))
        yield (
            f"what the compiler refuses costs {latency_text(now - before, now)}: the {latency.source} "
            f"latency is {latency_text(now)}{time_error(latency.error)}, and would be {latency_text(before, now)}"
        )


def loss_warnings(accuracy: data.AccuracyFigures) -> Iterator[str]:
    """Whether the evaluation data can tell a loss as small as the one that is allowed."""
    if accuracy.loss is None or accuracy.fp32 is None or accuracy.target is None:
        return
    allowed = accuracy.fp32 - accuracy.target
    if needed := accuracy.loss.samples_to_resolve(allowed):
        known, wanted = map(scale_of(accuracy).loss, (accuracy.loss.half_width, allowed))
        yield (
            f"{accuracy.samples:,} evaluation samples tell the loss to ± {known} (95 %), and the target allows "
            f"{wanted}: about {needed:,} samples would tell it"
        )


def range_warnings(explainer: Explainer) -> Iterator[str]:
    """What leaves the high precision because its values are beyond the range of it, at either end."""
    grouping, result = explainer.grouping, explainer.result
    top, precisions = grouping.top, result.chosen.plan.as_dict()
    for group in grouping.groups:
        if precisions[group.id] not in (top, *result.ladder):
            yield f"{group.id} leaves {top.name}: {explainer.reason(group)}"
    leaving: dict[tuple[str, Precision], list[str]] = defaultdict(list)
    for op in grouping.loose:
        if not op.allows(top):
            leaving[op.excluded[top], grouping.widest(op)].append(op.node)
    for (reason, instead), (first, *others) in leaving.items():
        names = f"{first} and {len(others)} more leave" if others else f"{first} leaves"
        these = "they run" if others else "it runs"
        yield f"{names} {top.name}: {reason}, so {these} in {instead.name}{explainer.last_resort(instead)}"


def scale_warnings(explainer: Explainer, ranges: Ranges, ratio: float) -> Iterator[str]:
    """What a Concat joins with much larger values, and so at the cost of a kernel or of resolution, and why.

    Args:
        explainer: Knows the plan.
        ranges: Of every tensor.
        ratio: From which on operands of Concats have scales of their own, as was chosen.
    """
    flow, plan = explainer.latency.flow, explainer.result.chosen.plan
    asked, limit = ratio != OWN_SCALE_RATIO, f"{OWN_SCALE_RATIO:g} times as large, from where on it has one of its own"
    converting = {reformat.reader for reformat in flow.reformats(flow.formats(plan)) if not reformat.fused}
    for tie, name, times in smaller_operands(explainer.grouping, ranges):
        if name in tie.apart:
            cost = "is requantized for the Concat" if tie.node in converting else "costs no kernel in this plan"
            why = "no faster plan that keeps the target was found without" if asked else f"they are more than {limit}"
            scale = f"it keeps a scale of its own and {cost}: {why}"
        elif times > LEAST_SCALE_RATIO:
            why = "the plan keeps the target with it" if asked else f"they are not {limit}"
            cost = f"which costs it {log2(times):.1f} of its bits and no kernel"
            scale = f"it has their scale all the same, {cost}: {why}"
        else:
            continue
        yield f"{tie.node} joins {name} with values {times:.3g} times as large: {scale}"


def _fp32_plan(grouping: Grouping) -> PrecisionPlan:
    return PrecisionPlan.of({group.id: Precision.FP32 for group in grouping.groups})


def _sensitivity(ranking: Ranking, group: LayerGroup) -> dict[Precision, float | None]:
    scores = {p: own[group.id] for p, own in ranking.scores.items() if group.id in own}
    return {precision: score if isfinite(score) else None for precision, score in scores.items()}
