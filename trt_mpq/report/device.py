"""What happened on the device, in words and rows that every rendering shares."""

from __future__ import annotations

from dataclasses import dataclass

from trt_mpq.engine.decide import PLAN
from trt_mpq.engine.realised import disagreements
from trt_mpq.report.wording import MISSING, energy_text, latency_text, minus, size_text
from trt_mpq.types.engine import Candidate, Deployment, Profile, Ratio, Realised

_NAMES = {
    "plan": "the plan", "fp32": "FP32", "fp16": "FP16", "bf16": "BF16", "int8": "uniform INT8", "fp8": "uniform FP8"
}  # fmt: skip
_SHOWN = 8
"""Groups whose realised precision differs that are spelt out; the JSON has them all."""


@dataclass(frozen=True)
class _EngineRow:
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


@dataclass(frozen=True)
class DeviceText:
    """What happened on the device, ready to print; None or empty where there is nothing to say.

    Attributes:
        outcome: What is shipped, how long it takes and how that compares with the baseline.
        cautions: What a reader of the timings must know, each in one sentence.
        baseline: What engines are compared with: the high precision, unless it was not built.
        rows: One row per candidate, the plan of the search first.
        platform: The machine: GPU, compute capability, versions.
        timing: How the engines were timed.
        conditions: State of the GPU before and after, as in SM 1980 to 1965 MHz.
        realised: How far the shipped engine runs what was asked for.
        layers: How many layers the shipped engine has and how many only convert.
        differences: A sentence per group that does not run as asked for, the first few.
        unused: Options that were asked for and that this TensorRT lacks, each once.
        latency: Host and device times of one inference of the shipped engine: name and figure.
    """

    outcome: str
    cautions: tuple[str, ...]
    baseline: str
    rows: tuple[_EngineRow, ...]
    platform: str
    timing: str | None
    conditions: str | None
    realised: str | None
    layers: str | None
    differences: tuple[str, ...]
    unused: tuple[str, ...]
    latency: tuple[tuple[str, str], ...]

    @property
    def slowest_ms(self) -> float | None:
        """The time whose unit all of the engines have."""
        return max((row.p99_ms for row in self.rows if row.p99_ms is not None), default=None)


def device_text(deployment: Deployment) -> DeviceText:
    """Everything that is said about `deployment`."""
    profile, platform = deployment.shipped_profile, deployment.platform
    ratios = deployment.timing.ratios if deployment.timing else ()
    return DeviceText(
        outcome=_outcome(deployment),
        cautions=_cautions(profile) if profile else (),
        baseline=engine_name(ratios[0].baseline if ratios else deployment.decision.baseline),
        rows=tuple(_row(candidate, deployment) for candidate in deployment.candidates),
        platform=f"{platform.gpu} (SM {platform.sm}), TensorRT {platform.tensorrt}, CUDA {platform.cuda}, "
        f"driver {platform.driver}, batch {deployment.batch}",
        timing=_timing(deployment, profile) if profile else None,
        conditions=_conditions(profile) if profile else None,
        realised=_realised(deployment.realised) if deployment.realised else None,
        layers=_layers(deployment.realised) if deployment.realised else None,
        differences=_differences(deployment.realised) if deployment.realised else (),
        unused=tuple(dict.fromkeys(text for candidate in deployment.candidates for text in candidate.build.unused)),
        latency=_latency(profile) if profile else (),
    )


def _row(candidate: Candidate, deployment: Deployment) -> _EngineRow:
    timing, build = deployment.timing, candidate.build
    profile = timing.profiles.get(candidate.name) if timing else None
    sizes = [other.build.size_bytes for other in deployment.candidates]
    return _EngineRow(
        name=engine_name(candidate.name).removeprefix("the "),
        candidate=candidate,
        median_ms=profile.gpu_compute.median if profile else None,
        p99_ms=profile.gpu_compute.p99 if profile else None,
        ratio=_ratio_text(timing.ratio(candidate.name)) if timing else MISSING,
        size=size_text(build.size_bytes if build.built else None, max(sizes)),
        accuracy={True: "met", False: "missed", None: "not scored"}[candidate.feasible],
        remark="" if build.built else ": ".join(filter(None, (str(build.status), build.reason))),
        errors=build.errors,
        shipped=candidate.name == deployment.decision.shipped,
    )


def engine_name(name: str) -> str:
    """What a candidate is called in a sentence: the plan, FP16, uniform INT8, candidate 2."""
    return _NAMES.get(name, name.replace("-", " "))


def _ratio_text(ratio: Ratio | None) -> str:
    """The change against the baseline with its confidence interval, as in -31.2 % (-32.0 to -30.5)."""
    if ratio is None:
        return MISSING
    change, low, high = (_signed(100 * (value - 1)) for value in (ratio.value, ratio.low, ratio.high))
    return f"{change} % ({low} to {high})"


def _signed(percent: float) -> str:
    rounded = round(percent, 1)
    return "0.0" if rounded == 0 else minus(f"{rounded:+.1f}")


def _against_text(ratio: Ratio) -> str:
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


def _outcome(deployment: Deployment) -> str:
    shipped = deployment.decision.shipped
    if shipped is None:
        built = any(candidate.build.built for candidate in deployment.candidates)
        why = "no engine that was built meets the target" if built else "no engine could be built"
        return f"Nothing is shipped: {why}"
    profile = deployment.shipped_profile
    if profile is None:
        return f"Shipped: {engine_name(shipped)}, not timed"
    return (
        f"Shipped: {engine_name(shipped)}, {latency_text(profile.gpu_compute.median)} measured{_standing(deployment)}"
    )


def _standing(deployment: Deployment) -> str:
    """How the shipped engine compares with the baseline, or if it is that, how the best other engine does."""
    baseline, ratios = deployment.decision.baseline, deployment.ratios
    if deployment.decision.shipped != baseline:
        own = ratios.get(str(deployment.decision.shipped))
        return f"; {engine_name(baseline)} was not timed" if own is None else f", {_against_text(own)}"
    rivals = [ratio for name, ratio in ratios.items() if _may_ship(deployment.candidate(name))]
    if not rivals:
        return "; no other engine meets the target"
    best = min(rivals, key=lambda ratio: ratio.value)
    # As in the decision, the plan stands for those that cannot be told from it.
    best = next((ratio for ratio in rivals if ratio.subject == PLAN and ratio.low <= best.high), best)
    finding = "is slower" if best.low > 1 else "is not faster by enough"
    return f"; {engine_name(best.subject)} {finding}: {_against_text(best)}"


def _may_ship(candidate: Candidate) -> bool:
    return candidate.feasible or (candidate.feasible is None and candidate.name == PLAN)


def _timing(deployment: Deployment, profile: Profile) -> str:
    engines = len(deployment.timing.profiles) if deployment.timing else 1
    turns = f"{engines} engines in turns, " if engines > 1 else ""
    graph = "as CUDA graphs" if profile.cuda_graph else "without CUDA graphs"
    inputs = _many(profile.input_sets, "input")
    return f"{turns}{profile.iterations:,} inferences {'each ' if turns else ''}{graph}, {inputs} in rotation"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _conditions(profile: Profile) -> str:
    before, after = profile.before, profile.after
    known = [
        _change("SM clock", "MHz", before.sm_clock_mhz, after.sm_clock_mhz),
        _change("memory", "MHz", before.memory_clock_mhz, after.memory_clock_mhz),
        _change("", "W", before.power_w, after.power_w),
        _change("", "°C", before.temperature_c, after.temperature_c),
        f"{energy_text(profile.energy_mj)} an inference" if profile.energy_mj is not None else "",
        "not throttled" if before.throttled == after.throttled == "" else "",
    ]
    return ", ".join(filter(None, known)) or "clocks, power and temperature unknown: NVML does not tell"


def _change(name: str, unit: str, before: float | None, after: float | None) -> str:
    values = list(dict.fromkeys(f"{value:.0f}" for value in (before, after) if value is not None))
    return " ".join(filter(None, (name, " to ".join(values), unit))) if values else ""


def _cautions(profile: Profile) -> tuple[str, ...]:
    said = []
    if profile.launch_bound:
        said.append("Launch-bound: without a CUDA graph, enqueueing takes about as long as computing.")
    states = (profile.before.throttled, profile.after.throttled)
    if reasons := ", ".join(dict.fromkeys(reason for state in states if state for reason in state.split(", "))):
        said.append(f"Throttled by {reasons}: times run long, ratios hold.")
    return tuple(said)


def _realised(realised: Realised) -> str:
    total, agreeing, unknown = len(realised.groups), realised.agreeing, realised.unknown
    other = total - agreeing - unknown
    parts = [
        f"{agreeing} of {_many(total, 'group')} run in the precision asked for",
        f"{other} in another" if other else "",
        f"{unknown} unknown" if unknown else "",
    ]
    return ", ".join(filter(None, parts))


def _layers(realised: Realised) -> str:
    converting = f"{_many(len(realised.reformats), 'reformat')}, {len(realised.unfused)} unfused Q/DQ"
    return f"{_many(realised.layers, 'layer')}, {converting}"


def _differences(realised: Realised) -> tuple[str, ...]:
    found = disagreements(realised)
    more = (f"and {len(found) - _SHOWN} more in report.json",) if len(found) > _SHOWN else ()
    return (*found[:_SHOWN], *more)


def _latency(profile: Profile) -> tuple[tuple[str, str], ...]:
    """In trtexec's terms, medians unless said otherwise."""
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
