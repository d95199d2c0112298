"""Reports made up for tests: any number of groups, any ladder, plausible figures."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from trt_mpq.report import (
    AccuracyFigures,
    CalibrationInfo,
    GroupRow,
    LatencyFigures,
    ModelInfo,
    PlanRecord,
    Report,
    SearchRecord,
    SearchStep,
    SizeFigures,
    TensorRow,
)
from trt_mpq.sensitivity.agreement import Agreement
from trt_mpq.types import Comparison, OutputComparison, Precision, PrecisionPlan, RefinementRecord

FP16, FP8, INT8, INT4 = Precision.FP16, Precision.FP8, Precision.INT8, Precision.INT4
HOSTILE_ID = "</script><img src=x onerror=\"document.title='owned'\">"
SPEED = {FP16: 1.0, FP8: 0.62, INT8: 0.55, INT4: 0.4, Precision.FP32: 2.3}
DAMAGE = {FP16: 0.0, FP8: 0.012, INT8: 0.004, INT4: 0.09, Precision.FP32: 0.0}


def sample_report(
    groups: int = 20,
    ladder: Sequence[Precision] = (FP16, INT8),
    target_fraction: float = 0.99,
    wide_share: float = 0.3,
    seed: int = 0,
) -> Report:
    """A report of `groups` groups where the most sensitive `wide_share` of them stays in FP16."""
    rng = random.Random(seed)
    rows = _rows(rng, groups, ladder, wide_share)
    plan = PrecisionPlan(tuple((row.id, row.precision) for row in rows))
    fp32 = 0.916
    target = fp32 * target_fraction
    score = target + 0.4 * (fp32 - target)
    uniform_latency = {p: sum((row.fp16_latency_ms or 0) * SPEED[p] for row in rows) * 1.08 for p in SPEED}
    latency = sum(row.latency_ms or 0 for row in rows) * 1.08
    weights = sum(row.flops // 100 for row in rows)
    narrow = [p for p in ladder if p.quantized]
    uniform_score = {p: max(fp32 * (1 - DAMAGE[p] * 4), 0.1) for p in narrow}
    path = _path(rng, narrow, plan, score, latency, uniform_score, uniform_latency, target)
    return Report(
        model=ModelInfo("resnet20.onnx", "6f1c" * 16, 272_474, 17),
        calibration=CalibrationInfo(dict.fromkeys(narrow, "entropy"), 256, "cifar10-calib.npz"),
        accuracy=AccuracyFigures(
            "top1", target, target_fraction, 5000, fp32, 0.9162, score, 0.00392, 0.00401, uniform_score
        ),
        latency_ms=LatencyFigures(
            "modelled",
            "h200",
            1,
            uniform_latency[Precision.FP32],
            uniform_latency[FP16],
            latency,
            {p: uniform_latency[p] for p in narrow},
        ),
        size_bytes=SizeFigures(
            4 * weights,
            2 * weights,
            sum(r.weight_bytes for r in rows),
            {p: int(weights * p.spec.weight_width) // 8 for p in narrow},
        ),
        search=SearchRecord(
            "greedy", "noise", None, len(path), 0.61 * len(path), 38.4, tuple(ladder), path, confidence=0.999
        ),
        plan=PlanRecord(plan.counts(), plan.as_dict(), plan.digest, all(p.deployable for p in plan.counts()), 0.62),
        groups=groups,
        group_rows=rows,
        refinement=(
            RefinementRecord("bias correction", narrow[-1], 0.894, 0.912, "19 biases moved, largest shift 0.21"),
            RefinementRecord("cross-layer equalization", narrow[-1], None, None, "no Conv-Relu-Conv chain to equalize"),
            RefinementRecord("for the chosen plan", None, 0.914, 0.915, "biases corrected anew, kept"),
        ),
        comparison=Comparison(256, (OutputComparison("logits", 31.2, 0.9996, 0.183, 10.0, True),)),
        device=None,
        agreement=None,
        warnings=("calibration saw 256 samples; the entropy method asks for 500 or more",),
        not_done=("no GPU here: the engine was not built; run `trt-mpq build run/` on the device",),
        seed=0,
        environment={"python": "3.11.9", "onnxruntime": "1.32.0", "numpy": "2.3.1", "platform": "linux-x86_64"},
        command="trt-mpq build resnet20.onnx --calib calib.npz --eval eval.npz --metric top1 --target-accuracy 0.99"
        " --precisions fp16,int8 --sensitivity noise --search greedy --device h200 -o run/",
        created="2025-11-23T18:41:07+00:00",
        version="0.1.0",
    )


def _rows(rng: random.Random, count: int, ladder: Sequence[Precision], wide_share: float) -> tuple[GroupRow, ...]:
    narrow = [p for p in ladder if p.quantized]
    base = [10 ** rng.uniform(-4.5, -1) for _ in range(count)]
    cut = sorted(base, reverse=True)[min(int(count * wide_share), count - 1)]
    rows = []
    for i, sensitivity in enumerate(base):
        wide = sensitivity > cut
        precision = ladder[0] if wide else narrow[rng.randrange(len(narrow))]
        flops = int(10 ** rng.uniform(5.5, 7.6))
        fp16 = 0.0012 + flops * 6e-11 * rng.uniform(0.7, 1.3)
        rows.append(
            GroupRow(
                id=f"/layer{i // 6 + 1}/layer{i // 6 + 1}.{i % 6 // 2}/conv{i % 2 + 1}/Conv",
                index=i,
                op_type="Conv" if i < count - 1 else "Gemm",
                followers=("Relu",) if i % 2 == 0 else ("Add", "Relu"),
                weight_shapes=((32, 16, 3, 3),),
                precision=precision,
                reason="too sensitive for the target" if wide else "within the accuracy budget",
                sensitivity={p: sensitivity * (1 + 40 * DAMAGE[p]) for p in narrow},
                flops=flops,
                weight_bytes=int(flops // 100 * precision.spec.weight_width) // 8,
                latency_ms=fp16 * SPEED[precision],
                fp16_latency_ms=fp16,
            )
        )
    return tuple(rows)


def _path(
    rng: random.Random,
    narrow: Sequence[Precision],
    plan: PrecisionPlan,
    score: float,
    latency: float,
    uniform_score: dict[Precision, float],
    uniform_latency: dict[Precision, float],
    target: float,
) -> tuple[SearchStep, ...]:
    groups = [g for g, _ in plan.assignments]
    steps = []
    for p in narrow:
        s = uniform_score[p]
        steps.append(SearchStep(f"uniform {p}", s, 0.004, 5000, uniform_latency[p], s >= target, {p: len(groups)}, p))
    for i in range(9):
        t = (i + 1) / 10
        at = uniform_latency[FP16] + t * (latency - uniform_latency[FP16])
        value = 0.916 - t * (0.916 - score) + rng.uniform(-0.004, 0.001)
        steps.append(
            SearchStep(
                f"{round(t * len(groups))} groups to {narrow[-1]}",
                value,
                0.006,
                1600,
                at,
                value >= target,
                {FP16: len(groups) - round(t * len(groups)), narrow[-1]: round(t * len(groups))},
                f"{i:016x}",
                complete=False,
            )
        )
    steps.append(SearchStep("chosen", score, 0.004, 5000, latency, True, plan.counts(), plan.digest))
    return tuple(steps)


def compared_report() -> Report:
    """A run with several sensitivity metrics."""
    tau = {
        FP8: ((1.0, 0.25, None), (0.25, 1.0, None), (None, None, None)),
        INT8: ((1.0, -0.375, 0.5), (-0.375, 1.0, 0.125), (0.5, 0.125, 1.0)),
    }
    agreement = Agreement(("noise", "task-loss", "hessian"), (640.0, 320.0, 512.0), tau)
    return replace(sample_report(ladder=(FP16, FP8, INT8)), agreement=agreement)


def uniform_report(groups: int = 20) -> Report:
    """A trivial result: uniform INT8 meets the target and is the plan."""
    report = sample_report(groups, wide_share=0)
    score = 0.9158
    return replace(
        report,
        accuracy=replace(report.accuracy, plan=score, uniform={INT8: score}),
        latency_ms=replace(report.latency_ms, plan=report.latency_ms.uniform[INT8]),
        search=replace(
            report.search, evaluations=1, full_equivalents=1.0, path=(replace(report.search.path[0], score=score),)
        ),
    )


def noisy_report() -> Report:
    """A report of the metric `sqnr`, whose scores are 1 minus the noise."""
    report = sample_report(20)
    path = tuple(replace(step, score=1 - (1 - step.score) ** 2, stderr=1e-4) for step in report.search.path)
    accuracy = replace(
        report.accuracy, metric="sqnr", target=0.99, fp32=1.0, fp16=0.999999, plan=0.9933, plan_stderr=2e-4,
        fp32_stderr=0.0, uniform={INT8: 0.98},
    )  # fmt: skip
    refinement = (RefinementRecord("bias correction", INT8, 0.98, 0.99, "19 biases moved"),)
    return replace(report, accuracy=accuracy, search=replace(report.search, path=path), refinement=refinement)


def hostile_report() -> Report:
    """Every text that could come from an untrusted file tries to break out of the page."""
    report = sample_report(3)
    rows = tuple(
        replace(row, id=f"{HOSTILE_ID}\x1b[31m\u202e{row.index}", op_type=HOSTILE_ID, followers=(HOSTILE_ID,))
        for row in report.group_rows
    )
    return replace(
        report,
        model=replace(report.model, name=HOSTILE_ID),
        accuracy=replace(report.accuracy, metric=HOSTILE_ID),
        group_rows=tuple(replace(row, reason=HOSTILE_ID) for row in rows),
        plan=replace(report.plan, assignments={row.id: row.precision for row in rows}),
        comparison=Comparison(1, (OutputComparison(HOSTILE_ID, None, 1.0, 0.0, 10.0, True),)),
        warnings=(HOSTILE_ID, "[bold]markup[/bold] \x1b[31m"),
        command=HOSTILE_ID,
    )


def sample_tensors(report: Report) -> tuple[TensorRow, ...]:
    """What every group reads: magnitudes that fall off, a tenth of them beyond where the first format clips."""
    formats = [precision for precision in report.search.ladder if precision.quantized]
    return tuple(
        TensorRow(
            f"{row.id}_in",
            (row.index,),
            -1.0,
            2.0,
            {precision: 1.0 + 0.5 * number for number, precision in enumerate(formats)},
            {formats[0]: 0.1},
            tuple(max(0, 64 - 2 * number) for number in range(64)),
        )
        for row in report.group_rows
    )
