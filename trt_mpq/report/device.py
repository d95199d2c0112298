"""What happened on the device, in words and rows that every rendering shares."""

from __future__ import annotations

from dataclasses import dataclass

from trt_mpq.engine.realised import disagreements
from trt_mpq.engine.values import Candidate, Conditions, Deployment, Profile, Ratio
from trt_mpq.report.wording import MISSING, latency_text, minus

_NAMES = {"fp32": "FP32", "fp16": "FP16", "int8": "uniform INT8", "fp8": "uniform FP8"}
_SHOWN = 8
"""Groups whose realised precision differs that are spelt out; the JSON has them all."""


@dataclass(frozen=True)
class EngineRow:
    """One engine that was built or attempted, ready to print."""

    name: str
    median_ms: float | None
    median: str
    p99: str
    ratio: str
    size_bytes: int | None
    accuracy: str
    remark: str
    shipped: bool


def engine_rows(deployment: Deployment) -> tuple[EngineRow, ...]:
    """One row per candidate, the plan of the search first."""
    return tuple(_row(candidate, deployment) for candidate in deployment.candidates)


def _row(candidate: Candidate, deployment: Deployment) -> EngineRow:
    timing = deployment.timing
    profile = timing.profiles.get(candidate.name) if timing else None
    median = profile.gpu_compute.median if profile else None
    return EngineRow(
        name=engine_name(candidate),
        median_ms=median,
        median=latency_text(median),
        p99=latency_text(profile.gpu_compute.p99 if profile else None),
        ratio=ratio_text(timing.ratio(candidate.name)) if timing else MISSING,
        size_bytes=candidate.build.size_bytes if candidate.build.built else None,
        accuracy={True: "met", False: "missed", None: "not scored"}[candidate.feasible],
        remark=candidate.build.reason or ("launch-bound" if profile and profile.launch_bound else ""),
        shipped=candidate.name == deployment.decision.shipped,
    )


def engine_name(candidate: Candidate) -> str:
    """What a candidate is called: plan, FP16, uniform INT8, candidate 2."""
    return _NAMES.get(candidate.name, candidate.name.replace("-", " "))


def ratio_text(ratio: Ratio | None) -> str:
    """The change against the baseline with its confidence interval, as in -31.2 % (-32.0 to -30.5)."""
    if ratio is None:
        return MISSING
    change, low, high = (100 * (value - 1) for value in (ratio.value, ratio.low, ratio.high))
    return f"{minus(f'{change:+.1f}')} % ({minus(f'{low:+.1f}')} to {minus(f'{high:+.1f}')})"


def platform_text(deployment: Deployment) -> str:
    """The machine: GPU, compute capability, versions."""
    p = deployment.platform
    return f"{p.gpu} (SM {p.sm}), TensorRT {p.tensorrt}, CUDA {p.cuda}, driver {p.driver}, batch {deployment.batch}"


def timing_text(deployment: Deployment) -> str | None:
    """How the engines were timed and in which state the GPU was; None if nothing was timed."""
    profile = _profile(deployment)
    if profile is None:
        return None
    graph = "with" if profile.cuda_graph else "without"
    text = (
        f"GPU compute time {graph} CUDA graph, {profile.iterations:,} inferences, {profile.input_sets} inputs in turn"
    )
    state = _conditions_text(profile.after)
    return f"{text}; {state}" if state else text


def _conditions_text(state: Conditions) -> str:
    known = (
        (state.sm_clock_mhz, "{:.0f} MHz"), (state.power_w, "{:.0f} W"), (state.temperature_c, "{:.0f} °C")
    )  # fmt: skip
    parts = [form.format(value) for value, form in known if value is not None]
    return ", ".join([*parts, *([f"throttled: {state.throttled}"] if state.throttled else [])])


def _profile(deployment: Deployment) -> Profile | None:
    timing, shipped = deployment.timing, deployment.decision.shipped
    return timing.profiles.get(shipped) if timing and shipped else None


def realised_text(deployment: Deployment) -> str | None:
    """How far the shipped engine runs what was asked for; None without an engine."""
    realised = deployment.realised
    if realised is None:
        return None
    total = len(realised.groups)
    parts = [f"{realised.agreeing} of {total} groups run in the precision asked for"]
    if realised.unknown:
        parts.append(f"TensorRT hides it for {realised.unknown}")
    parts.append(f"{realised.layers} layers, {len(realised.reformats)} reformats, {len(realised.unfused)} unfused Q/DQ")
    return "; ".join(parts)


def differences(deployment: Deployment) -> tuple[str, ...]:
    """A sentence per group that does not run as asked for, the first few."""
    found = disagreements(deployment.realised) if deployment.realised else ()
    more = (f"and {len(found) - _SHOWN} more in report.json",) if len(found) > _SHOWN else ()
    return (*found[:_SHOWN], *more)


def latency_parts(profile: Profile) -> tuple[tuple[str, str], ...]:
    """Median host and device times of one inference, trtexec's terms."""
    return (
        ("H2D", latency_text(profile.h2d.median)),
        ("GPU compute", latency_text(profile.gpu_compute.median)),
        ("D2H", latency_text(profile.d2h.median)),
        ("enqueue", latency_text(profile.enqueue.median)),
        ("latency", latency_text(profile.latency.median)),
        ("throughput", f"{profile.throughput * profile.batch:,.0f} samples/s"),
    )


def shipped_parts(deployment: Deployment) -> tuple[tuple[str, str], ...]:
    """The same for the shipped engine; empty if nothing was timed."""
    profile = _profile(deployment)
    return () if profile is None else latency_parts(profile)
