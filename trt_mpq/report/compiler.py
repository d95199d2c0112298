"""What NVIDIA's compiler made of the network, in words that every rendering shares."""

from __future__ import annotations

from dataclasses import dataclass

from trt_mpq.latency.target import RTX_SM
from trt_mpq.report.data import Report
from trt_mpq.report.device import device_text
from trt_mpq.report.wording import duration_text, size_text
from trt_mpq.types import Precision
from trt_mpq.types.compilation import Compilation
from trt_mpq.types.engine import AheadOfTime, capabilities_text

_SHOWN = 8
"""Groups that are named; the JSON has them all."""


@dataclass(frozen=True)
class CompilerText:
    """What NVIDIA's compiler made of the network, ready to print.

    Attributes:
        outcome: The verdict in a sentence.
        remarks: What became of groups that it refuses, and what else there is to know, in sentences.
        warnings: Its own warnings, each kind once.
        errors: Its own errors.
    """

    outcome: str
    remarks: tuple[str, ...]
    warnings: tuple[str, ...]
    errors: tuple[str, ...]


def compiler_text(compilation: Compilation) -> CompilerText:
    """Everything that is said about `compilation`."""
    build = compilation.build
    return CompilerText(
        _outcome(compilation), (*_raised(compilation), *compilation.notes, *build.unused), build.warnings, build.errors
    )


def engine_text(report: Report) -> str:
    """What became of an engine, in a few words: that which is shipped, else what NVIDIA's compiler says."""
    if report.device is not None:
        return device_text(report.device).outcome
    compilation = report.compilation
    if compilation is None:
        return "none was built"
    build, platform = compilation.build, compilation.build.platform
    if not isinstance(platform, AheadOfTime):
        return "no verdict of NVIDIA's compiler"
    if not build.built:
        return "NVIDIA's compiler refuses the network"
    if compilation.engine_sha256 is not None:
        return "made by NVIDIA's compiler, not timed"
    return f"none; NVIDIA's compiler takes the network for {capabilities_text(platform.capabilities)}"


def gpus_text(capabilities: tuple[int, ...]) -> str:
    """GPUs of these compute capabilities: compute capability 8.9 (RTX 40, L4, L40S)."""
    known = "; ".join(RTX_SM[sm] for sm in capabilities if sm in RTX_SM)
    return f"compute capability {capabilities_text(capabilities)} ({known})"


def _outcome(compilation: Compilation) -> str:
    build, platform = compilation.build, compilation.build.platform
    if not isinstance(platform, AheadOfTime):
        return f"NVIDIA's compiler gave no verdict: {build.reason}"
    compiler = f"NVIDIA's compiler, TensorRT for RTX {platform.tensorrt},"
    gpus = gpus_text(platform.capabilities)
    if not build.built:
        return f"{compiler} refuses the network for {gpus}: {build.reason}"
    if compilation.engine_sha256 is not None:
        made = f"{size_text(build.size_bytes, build.size_bytes)} in {duration_text(build.seconds)}"
        return f"{compiler} made the engine for {gpus}: {made}, not timed"
    if compilation.for_device:
        return f"{compiler} takes the network for {gpus}"
    device = f"{compilation.device} ({capabilities_text((compilation.sm,))})"
    return f"{compiler} takes the network for {gpus}: a check, no engine for {device}, which it does not serve"


def _raised(compilation: Compilation) -> tuple[str, ...]:
    if not compilation.raised:
        return ()
    groups, count = list(compilation.raised), len(compilation.raised)
    formats = " and ".join(p.name for p in Precision if p in compilation.raised.values())
    more = f" and {count - _SHOWN} more" if count > _SHOWN else ""
    return (
        f"{count} {'group is' if count == 1 else 'groups are'} back in high precision, refused in {formats}: "
        f"{', '.join(groups[:_SHOWN])}{more}; found by {compilation.compiled} compilations. {compilation.refusal}",
    )
