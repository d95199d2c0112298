"""What happened on the device, in words and rows that every rendering shares."""

from __future__ import annotations

from dataclasses import dataclass

from trt_mpq.engine.decide import PLAN
from trt_mpq.engine.realised import disagreements
from trt_mpq.report.wording import MISSING, latency_text, minus, size_text
from trt_mpq.types.engine import Candidate, Deployment, Profile, Ratio

_NAMES = {
    "plan": "the plan", "fp32": "FP32", "fp16": "FP16", "bf16": "BF16", "int8": "uniform INT8", "fp8": "uniform FP8"
}  # fmt: skip
_SHOWN = 8
"""Groups whose realised precision differs that are spelt out; the JSON has them all."""


@dataclass(frozen=True)
class EngineRow:
    """One engine that was built or attempted, ready to print.

    `accuracy` says whether it meets the target, `remark` why there is no engine, `errors` are TensorRT's own.
    """

    name: str
    candidate: Candidate
    median_ms: float | None
    p99_ms: float | None
    ratio: str
    size: str
    accuracy: str
    remark: str
    errors: tuple[str, ...]
    shipped: bool


def engine_rows(deployment: Deployment) -> tuple[EngineRow, ...]:
    """One row per candidate, the plan of the search first."""
    return tuple(_row(candidate, deployment) for candidate in deployment.candidates)


def _row(candidate: Candidate, deployment: Deployment) -> EngineRow:
    timing, build = deployment.timing, candidate.build
    profile = timing.profiles.get(candidate.name) if timing else None
    sizes = [other.build.size_bytes for other in deployment.candidates]
    return EngineRow(
        name=engine_name(candidate.name).removeprefix("the "),
        candidate=candidate,
        median_ms=profile.gpu_compute.median if profile else None,
        p99_ms=profile.gpu_compute.p99 if profile else None,
        ratio=ratio_text(timing.ratio(candidate.name)) if timing else MISSING,
        size=size_text(build.size_bytes if build.built else None, max(sizes)),
        accuracy={True: "met", False: "missed", None: "not scored"}[candidate.feasible],
        remark="" if build.built else ": ".join(filter(None, (str(build.status), build.reason))),
        errors=build.errors,
        shipped=candidate.name == deployment.decision.shipped,
    )


def engine_name(name: str) -> str:
    """What a candidate is called in a sentence: the plan, FP16, uniform INT8, candidate 2."""
    return _NAMES.get(name, name.replace("-", " "))


def baseline_name(deployment: Deployment) -> str:
    """What the others are compared with: the high precision, unless it was not built."""
    ratios = deployment.timing.ratios if deployment.timing else ()
    return engine_name(ratios[0].baseline if ratios else deployment.decision.baseline)


def ratio_text(ratio: Ratio | None) -> str:
    """The change against the baseline with its confidence interval, as in -31.2 % (-32.0 to -30.5)."""
    if ratio is None:
        return MISSING
    change, low, high = (_signed(100 * (value - 1)) for value in (ratio.value, ratio.low, ratio.high))
    return f"{change} % ({low} to {high})"


def _signed(percent: float) -> str:
    rounded = round(percent, 1)
    return "0.0" if rounded == 0 else minus(f"{rounded:+.1f}")


def against_text(ratio: Ratio) -> str:
    """The same in words: 31.2 % below FP16 (99 % confidence: 30.5 to 32.0 %)."""
    return f"{below_text(ratio)} ({interval_text(ratio)})"


def below_text(ratio: Ratio) -> str:
    """The change alone: 31.2 % below FP16."""
    side = "below" if ratio.value <= 1 else "above"
    return f"{abs(100 * (1 - ratio.value)):.1f} % {side} {engine_name(ratio.baseline)}"


def interval_text(ratio: Ratio) -> str:
    """The confidence interval alone: 99 % confidence: 30.5 to 32.0 %."""
    best, worst = 100 * (1 - ratio.low), 100 * (1 - ratio.high)
    near, far = sorted((abs(best), abs(worst)))
    one_sided = best * worst > 0
    interval = f"{near:.1f} to {far:.1f} %" if one_sided else f"{best:.1f} % below to {-worst:.1f} % above"
    return f"{100 * ratio.confidence:.0f} % confidence: {interval}"


def shipped_text(deployment: Deployment) -> str:
    """The outcome in one line: what is shipped, how long it takes and how that compares with the baseline."""
    shipped = deployment.decision.shipped
    if shipped is None:
        built = any(candidate.build.built for candidate in deployment.candidates)
        why = "no engine that was built meets the target" if built else "no engine could be built"
        return f"Nothing is shipped: {why}"
    profile = shipped_profile(deployment)
    if profile is None:
        return f"Shipped: {engine_name(shipped)}, not timed"
    return (
        f"Shipped: {engine_name(shipped)}, {latency_text(profile.gpu_compute.median)} measured{_standing(deployment)}"
    )


def _standing(deployment: Deployment) -> str:
    """How the shipped engine compares with the baseline, or if it is that, how the best other engine does."""
    baseline = deployment.decision.baseline
    if deployment.decision.shipped != baseline:
        own = shipped_ratio(deployment)
        return f"; {engine_name(baseline)} was not timed" if own is None else f", {against_text(own)}"
    rivals = [ratio for ratio in _ratios_to_baseline(deployment) if _may_ship(deployment.candidate(ratio.subject))]
    if not rivals:
        return "; no other engine meets the target"
    best = min(rivals, key=lambda ratio: ratio.value)
    # As in the decision, the plan stands for those that cannot be told from it.
    best = next((ratio for ratio in rivals if ratio.subject == PLAN and ratio.low <= best.high), best)
    finding = "is slower" if best.low > 1 else "is not faster by enough"
    return f"; {engine_name(best.subject)} {finding}: {against_text(best)}"


def _ratios_to_baseline(deployment: Deployment) -> list[Ratio]:
    ratios = deployment.timing.ratios if deployment.timing else ()
    return [ratio for ratio in ratios if ratio.baseline == deployment.decision.baseline]


def _may_ship(candidate: Candidate) -> bool:
    return candidate.feasible or (candidate.feasible is None and candidate.name == PLAN)


def shipped_ratio(deployment: Deployment) -> Ratio | None:
    """The shipped engine against the baseline, None if it is that or was not compared with it."""
    shipped = deployment.decision.shipped
    return next((ratio for ratio in _ratios_to_baseline(deployment) if ratio.subject == shipped), None)


def shipped_profile(deployment: Deployment) -> Profile | None:
    """Timing of the shipped engine, None if nothing is shipped or it was not timed."""
    timing, shipped = deployment.timing, deployment.decision.shipped
    return timing.profiles.get(shipped) if timing and shipped else None


def platform_text(deployment: Deployment) -> str:
    """The machine: GPU, compute capability, versions."""
    p = deployment.platform
    return f"{p.gpu} (SM {p.sm}), TensorRT {p.tensorrt}, CUDA {p.cuda}, driver {p.driver}, batch {deployment.batch}"


def timing_text(deployment: Deployment) -> str | None:
    """How the engines were timed; None if the shipped one was not."""
    profile = shipped_profile(deployment)
    if profile is None:
        return None
    engines = len(deployment.timing.profiles) if deployment.timing else 1
    turns = f"{engines} engines in turns, " if engines > 1 else ""
    graph = "as CUDA graphs" if profile.cuda_graph else "without CUDA graphs"
    inputs = _many(profile.input_sets, "input")
    return f"{turns}{profile.iterations:,} inferences {'each ' if turns else ''}{graph}, {inputs} in rotation"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def conditions_text(deployment: Deployment) -> str | None:
    """State of the GPU before and after, as in SM 1980 to 1965 MHz; None if nothing was timed."""
    profile = shipped_profile(deployment)
    if profile is None:
        return None
    before, after = profile.before, profile.after
    known = [
        _change("SM clock", "MHz", before.sm_clock_mhz, after.sm_clock_mhz),
        _change("memory", "MHz", before.memory_clock_mhz, after.memory_clock_mhz),
        _change("", "W", before.power_w, after.power_w),
        _change("", "°C", before.temperature_c, after.temperature_c),
        "not throttled" if before.throttled == after.throttled == "" else "",
    ]
    return ", ".join(filter(None, known)) or "clocks, power and temperature unknown: NVML does not tell"


def _change(name: str, unit: str, before: float | None, after: float | None) -> str:
    values = list(dict.fromkeys(f"{value:.0f}" for value in (before, after) if value is not None))
    return " ".join(filter(None, (name, " to ".join(values), unit))) if values else ""


def throttled(profile: Profile) -> str:
    """What held the clocks down before or after, empty if nothing did or nobody knows."""
    states = (profile.before.throttled, profile.after.throttled)
    return ", ".join(dict.fromkeys(reason for state in states if state for reason in state.split(", ")))


def cautions(deployment: Deployment) -> tuple[str, ...]:
    """What a reader of the timings must know, each in one sentence."""
    profile = shipped_profile(deployment)
    if profile is None:
        return ()
    said = []
    if profile.launch_bound:
        said.append("Launch-bound: without a CUDA graph, enqueueing takes about as long as computing.")
    if reasons := throttled(profile):
        said.append(f"Throttled by {reasons}: times run long, ratios hold.")
    return tuple(said)


def realised_text(deployment: Deployment) -> str | None:
    """How far the shipped engine runs what was asked for; None without an engine."""
    realised = deployment.realised
    if realised is None:
        return None
    total, agreeing, unknown = len(realised.groups), realised.agreeing, realised.unknown
    other = total - agreeing - unknown
    parts = [
        f"{agreeing} of {_many(total, 'group')} run in the precision asked for",
        f"{other} in another" if other else "",
        f"{unknown} unknown" if unknown else "",
    ]
    return ", ".join(filter(None, parts))


def layers_text(deployment: Deployment) -> str | None:
    """How many layers the shipped engine has and how many only convert; None without an engine."""
    realised = deployment.realised
    if realised is None:
        return None
    converting = f"{_many(len(realised.reformats), 'reformat')}, {len(realised.unfused)} unfused Q/DQ"
    return f"{_many(realised.layers, 'layer')}, {converting}"


def differences(deployment: Deployment) -> tuple[str, ...]:
    """A sentence per group that does not run as asked for, the first few."""
    found = disagreements(deployment.realised) if deployment.realised else ()
    more = (f"and {len(found) - _SHOWN} more in report.json",) if len(found) > _SHOWN else ()
    return (*found[:_SHOWN], *more)


def unused_options(deployment: Deployment) -> tuple[str, ...]:
    """Options that were asked for and that this TensorRT lacks, each once."""
    return tuple(dict.fromkeys(text for candidate in deployment.candidates for text in candidate.build.unused))


def latency_parts(profile: Profile) -> tuple[tuple[str, str], ...]:
    """Host and device times of one inference in trtexec's terms, medians unless said otherwise."""
    compute = profile.gpu_compute
    parts = [
        ("GPU compute", latency_text(compute.median)),
        ("GPU compute, p95", latency_text(compute.p95)),
        ("GPU compute, p99", latency_text(compute.p99)),
        ("latency with copies", latency_text(profile.latency.median)),
        ("copy to the device", latency_text(profile.h2d.median)),
        ("copy to the host", latency_text(profile.d2h.median)),
        ("enqueue on the host", latency_text(profile.enqueue.median)),
        ("throughput", f"{profile.throughput * profile.batch:,.0f} samples/s"),
    ]
    if profile.other_graph_median is not None:
        other = "without CUDA graph" if profile.cuda_graph else "as a CUDA graph"
        parts.insert(1, (f"GPU compute, {other}", latency_text(profile.other_graph_median)))
    return tuple(parts)


def shipped_parts(deployment: Deployment) -> tuple[tuple[str, str], ...]:
    """The same for the shipped engine; empty if it was not timed."""
    profile = shipped_profile(deployment)
    return () if profile is None else latency_parts(profile)
