"""From the values of all stages to the report: figures, reasons, and what was not done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from math import inf, isfinite

from trt_mpq import __version__
from trt_mpq.emit.deliver import Delivery
from trt_mpq.latency.roofline import Latency, weight_bytes
from trt_mpq.numerics import LARGEST
from trt_mpq.report import data
from trt_mpq.report.explain import Explainer, mac_share
from trt_mpq.sensitivity.agreement import Agreement
from trt_mpq.settings import Settings
from trt_mpq.types import (
    Comparison,
    Grouping,
    LayerGroup,
    Model,
    Precision,
    PrecisionPlan,
    Ranges,
    Ranking,
    RefinementRecord,
    Score,
    SearchResult,
    Target,
)
from trt_mpq.types.engine import Deployment

TYPED_TOLERANCE = 0.002
"""How far the typed file may score from the plan, for scores up to 1 and relative to the FP32 score above: ONNX
Runtime does not round its FP16 tensors on the CPU, and the reference does not round what is dequantized."""


@dataclass(frozen=True)
class Findings:
    """What the stages of a run found."""

    settings: Settings
    model: Model
    grouping: Grouping
    followers: Mapping[str, tuple[str, ...]]
    ranges: Ranges
    ranking: Ranking
    agreement: Agreement | None
    calibration_source: str
    evaluation_samples: int
    result: SearchResult
    fp32: Score
    typed: Score
    required: float
    metric: str
    latency: Latency
    target: Target
    batch: int
    refinement: tuple[RefinementRecord, ...]
    rescued: Mapping[str, Precision]
    comparison: Comparison
    delivery: Delivery
    deployment: Deployment | None
    no_device: str | None
    search_seconds: float
    notes: tuple[str, ...]
    environment: Mapping[str, str]
    command: str


def summarize(found: Findings) -> data.Report:
    """Lay the findings out as a report."""
    return data.Report(
        model=data.ModelInfo(
            found.settings.model.name, found.model.source_sha256, found.model.parameters, found.model.opset
        ),
        calibration=data.CalibrationInfo(found.ranges.methods, found.ranges.samples, found.calibration_source),
        accuracy=_accuracy(found),
        latency_ms=_latency(found),
        size_bytes=_size(found),
        search=_search(found),
        plan=_plan(found),
        groups=len(found.grouping.groups),
        group_rows=_rows(found),
        refinement=found.refinement,
        comparison=found.comparison,
        device=found.deployment,
        agreement=found.agreement,
        warnings=_warnings(found),
        not_done=tuple(_not_done(found)),
        seed=found.settings.seed,
        environment=found.environment,
        command=found.command,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        version=__version__,
        baseline=found.grouping.top,
    )


def _plan(found: Findings) -> data.PlanRecord:
    plan = found.result.chosen.plan
    share = mac_share(plan, {group.id: group.flops for group in found.grouping.groups})
    return data.PlanRecord(plan.counts(), plan.as_dict(), plan.digest, found.delivery.deployable, share)


def _limit(found: Findings) -> str | None:
    """The option that set another target than accuracy."""
    given = {"--target-latency": found.settings.target_latency, "--target-size": found.settings.target_size}
    return next((option for option, value in given.items() if value is not None), None)


def _uniform_plans(found: Findings) -> dict[Precision, PrecisionPlan]:
    return {p: found.grouping.uniform(p) for p in found.result.ladder}


def _fp32_plan(found: Findings) -> PrecisionPlan:
    return PrecisionPlan.of({group.id: Precision.FP32 for group in found.grouping.groups})


def _accuracy(found: Findings) -> data.AccuracyFigures:
    scores = {tried.plan: tried.score.value for tried in found.result.path if tried.complete}
    uniform = {p: scores.get(plan) for p, plan in _uniform_plans(found).items()}
    chosen = found.result.chosen.score
    return data.AccuracyFigures(
        metric=found.metric,
        target=found.required,
        target_fraction=found.settings.target_accuracy,
        samples=found.evaluation_samples,
        fp32=found.fp32.value,
        fp16=uniform.get(Precision.FP16),
        plan=chosen.value,
        fp32_stderr=found.fp32.stderr,
        plan_stderr=chosen.stderr,
        uniform=uniform,
    )


def _latency(found: Findings) -> data.LatencyFigures:
    uniform = {p: found.latency.plan_ms(plan) for p, plan in _uniform_plans(found).items()}
    fp32 = _fp32_plan(found)
    return data.LatencyFigures(
        source=found.latency.source,
        device=found.latency.device,
        batch=found.batch,
        fp32=found.latency.plan_ms(fp32) if found.latency.knows(fp32) else None,
        fp16=uniform.get(Precision.FP16),
        plan=found.result.chosen.latency_ms,
        uniform=uniform,
    )


def _size(found: Findings) -> data.SizeFigures:
    other = found.model.parameters - found.grouping.weight_elements
    uniform = {p: weight_bytes(plan, found.grouping, other) for p, plan in _uniform_plans(found).items()}
    return data.SizeFigures(
        fp32=weight_bytes(_fp32_plan(found), found.grouping, other),
        fp16=uniform.get(Precision.FP16),
        plan=weight_bytes(found.result.chosen.plan, found.grouping, other),
        uniform=uniform,
    )


def _search(found: Findings) -> data.SearchRecord:
    """The cost of sensitivity and search; calibration and refinement, which every search shares, are left out."""
    path = found.result.path
    forward = found.result.samples_run + found.ranking.forward_passes
    return data.SearchRecord(
        algorithm=found.result.algorithm,
        sensitivity=found.ranking.metric,
        evaluations=len(path),
        full_equivalents=round(forward / found.evaluation_samples, 3),
        seconds=round(found.search_seconds, 3),
        ladder=found.result.ladder,
        stopped=found.result.stopped,
        limit=_limit(found),
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
            )
            for e in path
        ),
        confidence=found.settings.confidence,
    )


def _explainer(found: Findings) -> Explainer:
    required = None if _limit(found) else found.required
    return Explainer(found.result, found.grouping, found.ranking, found.latency, found.target, required, found.rescued)


def _rows(found: Findings) -> tuple[data.GroupRow, ...]:
    plan = found.result.chosen.plan
    top = found.grouping.top
    chosen, baseline = found.latency.group_ms(plan), found.latency.group_ms(found.grouping.uniform(top))
    precisions = plan.as_dict()
    explainer = _explainer(found)
    return tuple(
        data.GroupRow(
            id=group.id,
            index=group.index,
            op_type=group.op_type,
            followers=found.followers[group.id],
            weight_shapes=tuple(weight.shape for weight in group.weights),
            precision=precisions[group.id],
            reason=explainer.reason(group),
            sensitivity=_sensitivity(found.ranking, group),
            flops=group.flops,
            weight_bytes=group.weight_elements * precisions[group.id].bits // 8,
            latency_ms=chosen[group.id],
            fp16_latency_ms=baseline[group.id] if top is Precision.FP16 else None,
            bf16_latency_ms=baseline[group.id] if top is Precision.BF16 else None,
        )
        for group in found.grouping.groups
    )


def _sensitivity(ranking: Ranking, group: LayerGroup) -> dict[Precision, float | None]:
    scores = {p: own[group.id] for p, own in ranking.scores.items() if group.id in own}
    return {precision: score if isfinite(score) else None for precision, score in scores.items()}


def _warnings(found: Findings) -> tuple[str, ...]:
    return (*found.notes, *_plan_warnings(found), *_range_warnings(found))


def _plan_warnings(found: Findings) -> Iterator[str]:
    if not found.delivery.deployable:
        yield "INT4 is for study: TensorRT has no 4-bit convolution or activations, so no engine can hold this plan"
    typed, plan = found.typed.value, found.result.chosen.score.value
    if abs(typed - plan) > TYPED_TOLERANCE * max(1.0, abs(found.fp32.value)):
        yield (
            f"typed.onnx scores {typed:.4f} in ONNX Runtime and the plan {plan:.4f}: trust the plan's, ONNX Runtime "
            "does not round FP16 tensors on the CPU"
        )
    if typed < found.required <= plan and not _limit(found):
        yield (
            f"typed.onnx misses the target in ONNX Runtime, with {typed:.4f}: it is delivered because it is uniform "
            f"{found.grouping.top.name}, which is what there is without a search"
        )
    widened = found.result.chosen.plan.counts().get(Precision.BF16, 0)
    if widened and found.delivery.weak_missing is None:
        groups = "1 group" if widened == 1 else f"{widened} groups"
        yield f"weak.onnx has {groups} of the plan in FP32 in place of BF16, which TensorRT 8.6 does not have"
    if found.delivery.weak_missing is not None:
        yield f"no weak.onnx was written: {found.delivery.weak_missing}"


def _range_warnings(found: Findings) -> Iterator[str]:
    top, precisions, explainer = found.grouping.top, found.result.chosen.plan.as_dict(), _explainer(found)
    for group in found.grouping.groups:
        if precisions[group.id] not in (top, *found.result.ladder):
            yield f"{group.id} leaves {top.name}: {explainer.reason(group)}"
    for op in found.grouping.loose:
        beyond = [name for name in (*op.inputs, op.output) if _magnitude(found, name) > LARGEST[top]]
        if beyond:
            refuge = found.grouping.refuge
            fits = all(_magnitude(found, name) <= LARGEST.get(refuge, inf) for name in beyond)
            instead = refuge if fits else Precision.FP32
            yield (
                f"{op.node} leaves {top.name}: tensor {beyond[0]} is beyond its range, so it runs in {instead.name}"
                f"{explainer.last_resort(instead)}"
            )


def _magnitude(found: Findings, tensor: str) -> float:
    observed = found.ranges.tensors.get(tensor)
    return 0.0 if observed is None else observed.magnitude


def _not_done(found: Findings) -> Iterator[str]:
    if not found.delivery.deployable:
        yield "no engine: the plan is not deployable"
    elif found.deployment is None:
        why = found.no_device or "it was not asked for"
        yield (
            f"no engine was built or timed: {why}; on the device, `trt-mpq engine RUN_DIR` does it from this folder, "
            "or `trtexec --onnx=typed.onnx --stronglyTyped --saveEngine=model.plan`"
        )
    else:
        yield from found.deployment.notes
