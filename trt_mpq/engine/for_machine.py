"""A plan as this machine's TensorRT takes it: which graph, how it is typed, what the builder is told beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import onnx_ir as ir

from trt_mpq.emit import Emitter
from trt_mpq.runtime.tensorrt.api import capabilities, resolve_typing
from trt_mpq.runtime.tensorrt.request import BuildRequest
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Precision, PrecisionPlan
from trt_mpq.types.engine import Platform, ShapeRange, Typing


def typing_on(platform: Platform, options: EngineOptions) -> Typing:
    """How networks are typed there; raises SettingsError if its TensorRT cannot type them as the options say."""
    return resolve_typing(options.typing, capabilities(platform.flavour))


def graph_for(typing: Typing, emitter: Emitter, plan: PrecisionPlan) -> ir.Model:
    """The graph of `plan`; raises ModelError if there is none of that typing."""
    return emitter.weak(plan) if typing == "weak" else emitter.strong(plan)


def constraints_for(
    typing: Typing, emitter: Emitter, plan: PrecisionPlan, through: Literal["onnx", "builder-api"]
) -> dict[str, Precision]:
    """Precision of the nodes that the builder is told one for; none where the network's types say it."""
    return {} if typing == "strong" else emitter.constraints(plan, eight_bit=through == "builder-api")


def request_on(
    platform: Platform,
    onnx: Path,
    typing: Typing,
    constraints: Mapping[str, Precision],
    shapes: Mapping[str, ShapeRange],
    options: EngineOptions,
    timing_cache: Path,
) -> BuildRequest:
    """What builds the network `onnx` on `platform`, with its engine NAME.plan beside it.

    TensorRT for RTX compiles for capabilities that it is told: there, for that of the GPU at hand.
    """
    rtx = platform.flavour == "rtx"
    return BuildRequest(
        onnx=str(onnx), engine=str(onnx.with_suffix(".plan")), typing=typing, constraints=constraints, shapes=shapes,
        options=options, timing_cache=str(timing_cache), flavour=platform.flavour,
        capabilities=(platform.sm,) if rtx else (), at_hand=rtx,
    )  # fmt: skip
