"""Deployments made up for tests: what a device may have said, the good and the bad."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace

from tests.report.samples import FP16, HOSTILE_ID, INT8, hostile_report, sample_report
from trt_mpq.engine.decide import decide
from trt_mpq.report import Report
from trt_mpq.types import Comparison, OutputComparison, Precision, PrecisionPlan, Score
from trt_mpq.types.engine import (
    BuildStatus,
    Candidate,
    Conditions,
    Deployment,
    EngineBuild,
    LayerTime,
    Platform,
    Profile,
    Ratio,
    Realised,
    RealisedGroup,
    SideBySide,
    Spread,
)

FASTER = {"plan": 0.0214, "fp16": 0.0311, "int8": 0.0192, "candidate-2": 0.0221, "candidate-3": 0.0224}
MARGIN = 0.02
PLATFORM = Platform("NVIDIA H200", 90, "10.16.1.11", "13.0", "580.65.06")
BEFORE, AFTER = Conditions(1980, 3201, 118.4, 36, ""), Conditions(1965, 3201, 412.7, 54, "")
THROTTLED = replace(AFTER, sm_clock_mhz=1410.0, throttled="power cap, software thermal slowdown")
NVML_ABSENT = Conditions()
TRTEXEC = (
    "trtexec --onnx=run/engine/network.onnx --stronglyTyped --useCudaGraph --useSpinWait --iterations=10 --warmUp=500"
    " --duration=3 --builderOptimizationLevel=5 --memPoolSize=workspace:4096"
)


def with_device(
    report: Report,
    medians: Mapping[str, float] = FASTER,
    failed: Mapping[str, EngineBuild] | None = None,
    change: Callable[[Profile], Profile] = lambda profile: profile,
    misses: tuple[str, ...] = ("int8",),
) -> Report:
    """`report` with engines of those median milliseconds, of which `misses` do not reach the target."""
    plans = _plans(report)
    builds = {**{name: _built(name, ms) for name, ms in medians.items()}, **(failed or {})}
    candidates = tuple(
        Candidate(name, plans[name], build, None if name == "fp16" else name not in misses)
        for name, build in sorted(builds.items(), key=lambda item: list(plans).index(item[0]))
    )
    profiles = {name: change(_profile(ms, report)) for name, ms in medians.items()}
    timing = SideBySide(profiles, _ratios(medians)) if profiles else None
    decision = decide(candidates, timing, MARGIN)
    deployment = Deployment(PLATFORM, report.latency_ms.batch, candidates, timing, decision)
    if deployment.shipped is not None:
        deployment = replace(
            deployment,
            realised=_realised(report, deployment.shipped.plan),
            comparison=Comparison(64, (OutputComparison("logits", 30.8, 0.99957, 0.191, 10.0, True),)),
            score=Score(0.9144, 0.004, 5000),
            reproduce=TRTEXEC,
        )
    return replace(report, device=deployment, not_done=deployment.notes)


def _plans(report: Report) -> dict[str, PrecisionPlan]:
    groups = tuple(report.plan.assignments)
    uniform = {p: PrecisionPlan(tuple((g, p) for g in groups)) for p in (FP16, INT8)}
    plan = PrecisionPlan(tuple(report.plan.assignments.items()))
    narrow = [g for g, p in plan.assignments if p.quantized]
    return {
        "plan": plan,
        "fp16": uniform[FP16],
        "int8": uniform[INT8],
        "fp8": PrecisionPlan(tuple((g, Precision.FP8) for g in groups)),
        "candidate-2": plan.replace({narrow[0]: FP16}),
        "candidate-3": plan.replace({narrow[-1]: FP16}),
    }


def _built(name: str, ms: float) -> EngineBuild:
    return EngineBuild(BuildStatus.BUILT, "strong", 21.4, f"{name}.plan", round(4e7 * ms), f"{name}.json", PLATFORM)


def failure(status: BuildStatus, reason: str, *errors: str) -> EngineBuild:
    """A build that left no engine."""
    return EngineBuild(status, "strong", 600.0, errors=errors, reason=reason)


def spread(median: float, tail: float = 0.04) -> Spread:
    """A distribution around `median` whose p99 is `tail` above it."""
    at = [median * (1 + tail * share) for share in (-0.5, 0.05, 0, 0.4, 0.6, 1, 4)]
    return Spread(*at)


def _profile(ms: float, report: Report) -> Profile:
    return Profile(
        gpu_compute=spread(ms),
        enqueue=spread(0.0061),
        h2d=spread(0.0047),
        d2h=spread(0.0023),
        latency=spread(ms + 0.007),
        throughput=1000 / ms,
        iterations=12_800,
        batch=report.latency_ms.batch,
        cuda_graph=True,
        input_sets=4,
        warm_up_ms=500.0,
        other_graph_median=ms * 1.16,
        launch_bound=False,
        before=BEFORE,
        after=AFTER,
        layers=_layers(report, ms),
    )


def _layers(report: Report, ms: float) -> tuple[LayerTime, ...]:
    rng = random.Random(7)
    weights = [("Reformatting CopyNode for Input Tensor 0 to " + report.group_rows[0].id, 0.4)]
    for row in report.group_rows:
        weights.append((f"{row.id} + relu", rng.uniform(0.6, 2.2)))
        if row.index % 7 == 3:
            weights.append((f"{row.id}_q", 0.3))
    weights.append(("avg_pool", 0.5))
    total = sum(weight for _, weight in weights)
    return tuple(LayerTime(name, ms * weight / total) for name, weight in weights)


def _ratios(medians: Mapping[str, float]) -> tuple[Ratio, ...]:
    baseline = "fp16" if "fp16" in medians else next(iter(medians), "fp16")
    return tuple(
        Ratio(name, baseline, value, value * 0.994, value * 1.006, 0.99, 32)
        for name, ms in medians.items()
        if name != baseline
        for value in (ms / medians[baseline],)
    )


def _realised(report: Report, plan: PrecisionPlan) -> Realised:
    layers = _layers(report, 1.0)
    groups = tuple(RealisedGroup(g, p, p, (f"{g} + relu",)) for g, p in plan.assignments)
    reformats = tuple(layer.name for layer in layers if layer.name.startswith("Reformatting"))
    return Realised(groups, tuple(layer.name for layer in layers if layer.name.endswith("_q")), reformats, len(layers))


def some_failed() -> Report:
    """A crash, a time-out and a refusal, with options this TensorRT lacks."""
    report = with_device(
        sample_report(20),
        {"plan": 0.0214, "fp16": 0.0311},
        {
            "int8": failure(
                BuildStatus.FAILED, "TensorRT found no kernel for /layer1/layer1.0/conv1/Conv in INT8",
                "[E] Error Code 10: Internal Error (Could not find any implementation for node /layer1/layer1.0/conv1)",
                "[E] IBuilder::buildSerializedNetwork: Error Code 10",
            ),
            "candidate-2": failure(BuildStatus.CRASHED, "the build process died of signal 11 (segmentation fault)"),
            "candidate-3": failure(BuildStatus.TIMED_OUT, "the build took longer than 600 s: raise --build-timeout-s"),
        },
    )  # fmt: skip
    device = _device(report)
    unused = ("tf32: TensorRT 11 has no such builder flag", "dla_core: this GPU has no DLA")
    candidates = tuple(
        replace(c, build=replace(c.build, unused=unused)) if c.build.built else c for c in device.candidates
    )
    notes = ("no evaluation data here: the task score through the engine was not measured",)
    return replace(report, device=replace(device, candidates=candidates, score=None, notes=notes), not_done=notes)


def all_failed() -> Report:
    """No engine at all."""
    reason = "TensorRT cannot parse typed.onnx: no importer for the operator Frobnicate"
    names = ("plan", "fp16", "int8")
    return with_device(
        sample_report(20), {}, {name: failure(BuildStatus.FAILED, reason, "[E] In node 3") for name in names}
    )


def badly_realised(groups: int = 20) -> Report:
    """Groups that run wider than asked for or in nobody knows what, and much converting between."""
    report = with_device(sample_report(groups))
    device = _device(report)
    assert device.realised is not None
    found = list(device.realised.groups)
    for i, group in enumerate(found):
        if i % 4 == 1 and group.requested is INT8:
            found[i] = replace(group, realised=FP16, note="its input reaches it unquantized")
        if i % 5 == 4:
            note = "TensorRT hides what runs inside {ForeignNode[a...z]}, of which is known that it reads int8"
            found[i] = replace(group, realised=None, note=note)
    realised = replace(device.realised, groups=tuple(found), reformats=tuple(f"reformat {i}" for i in range(17)))
    return replace(report, device=replace(device, realised=realised))


def launch_bound() -> Report:
    """A small model on a big GPU that was throttled too."""
    return with_device(
        sample_report(5),
        {"plan": 0.0052, "fp16": 0.0054},
        change=lambda p: replace(p, launch_bound=True, after=THROTTLED, enqueue=spread(0.031), layers=()),
    )


def hostile_device() -> Report:
    """Every text a device could say tries to break out of the page."""
    report = with_device(hostile_report())
    device = _device(report)
    assert device.realised is not None
    assert device.timing is not None
    groups = tuple(replace(g, realised=None, note=HOSTILE_ID) for g in device.realised.groups)
    broken = failure(BuildStatus.CRASHED, HOSTILE_ID, HOSTILE_ID, "\x1b[31m")
    first, *others = (replace(c, build=replace(c.build, unused=(HOSTILE_ID,))) for c in device.candidates)
    return replace(
        report,
        device=replace(
            device,
            platform=Platform(HOSTILE_ID, 90, HOSTILE_ID, HOSTILE_ID, HOSTILE_ID),
            candidates=(first, *others, Candidate(HOSTILE_ID, first.plan, broken, None)),
            decision=replace(device.decision, verdict=HOSTILE_ID),
            realised=replace(device.realised, groups=groups),
            comparison=Comparison(1, (OutputComparison(HOSTILE_ID, None, 1.0, 0.0, 10.0, True),)),
            reproduce=HOSTILE_ID,
            notes=(HOSTILE_ID,),
        ),
    )


def _device(report: Report) -> Deployment:
    assert report.device is not None
    return report.device


def _deployments() -> dict[str, Report]:
    base = sample_report(20)
    shipped = with_device(base)
    device = _device(shipped)
    no_faster = {"plan": 0.0309, "fp16": 0.0311, "int8": 0.0290, "candidate-2": 0.0313}
    return {
        "plan shipped": shipped,
        "fp16 shipped": with_device(base, no_faster),
        "another shipped": with_device(base, misses=("plan", "int8")),
        "uniform shipped": with_device(base, {"plan": 0.030, "fp16": 0.0311, "int8": 0.0192}, misses=()),
        "no fp16": with_device(base, {"plan": 0.0214, "int8": 0.02}, {"fp16": failure(BuildStatus.CRASHED, "gone")}),
        "some failed": some_failed(),
        "all failed": all_failed(),
        "nothing accurate": with_device(base, {"int8": 0.0192}),
        "badly realised": badly_realised(),
        "launch-bound": launch_bound(),
        "no NVML": with_device(base, change=lambda p: replace(p, before=NVML_ABSENT, after=NVML_ABSENT)),
        "untimed": replace(
            shipped, device=replace(device, timing=None, decision=decide(device.candidates, None, MARGIN))
        ),
        "100 groups": badly_realised(100),
        "hostile device": hostile_device(),
    }


DEPLOYMENTS = _deployments()
