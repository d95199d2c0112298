"""What is left to do on a device: for every TensorRT that serves it the file, the exact command, and why not if not.

Which TensorRT serves which compute capability: NVIDIA's support matrices, see engines/README.md; which of them JetPack
brings: the release notes of JetPack 6.0, 6.1, 6.2 and 7.0, and TensorRT 11.4.1's page on Jetson.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trt_mpq.artifacts.files import from_json
from trt_mpq.engine.handover import CalibratedNetwork
from trt_mpq.engine.profile.trtexec import trtexec_command
from trt_mpq.runtime.tensorrt.request import shape_ranges
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Precision, PrecisionPlan
from trt_mpq.types.engine import ShapeRange, capabilities_text
from trt_mpq.types.route import Route

_PARSER_SPLITS = (",", ":")
"""What trtexec takes names of layers apart at."""
_FIRST_STRONG = 10
_DOCUMENTED_STRONG = (10, 12)
"""From this version on NVIDIA documents strong typing fully."""


@dataclass(frozen=True)
class Delivered:
    """What a run delivers, as far as building it goes.

    Attributes:
        held: Precisions of the plan.
        constraints: Node to precision of weak.onnx; None if there is no such file.
        weak_missing: Why there is none.
        shapes: Optimization profile of the dynamic inputs.
        options: How engines are built and timed.
    """

    held: tuple[Precision, ...]
    constraints: Mapping[str, Precision] | None
    weak_missing: str
    shapes: Mapping[str, ShapeRange]
    options: EngineOptions


@dataclass(frozen=True)
class Release:
    """A TensorRT that may be on the device: its version, what brings it, and which compute capabilities it serves."""

    version: tuple[int, int]
    brought_by: str
    first_sm: int
    last_sm: int

    @property
    def name(self) -> str:
        """As in TensorRT 10.3 (JetPack 6.1, 6.2)."""
        of = f" ({self.brought_by})" if self.brought_by else ""
        return f"TensorRT {self.version[0]}.{self.version[1]}{of}"

    def serves(self, sm: int) -> bool:
        """Whether it builds for a compute capability."""
        return self.first_sm <= sm <= self.last_sm


_JETSON = {
    87: (
        Release((8, 6), "JetPack 6.0", 53, 90),
        Release((10, 3), "JetPack 6.1 and 6.2", 75, 90),
        Release((11, 4), "JetPack 7.2.2 and later, AGX Orin", 75, 121),
    ),
    110: (Release((10, 13), "JetPack 7.0", 75, 121), Release((11, 4), "JetPack 7.2.2 and later", 75, 121)),
}
_ELSEWHERE = (
    Release((8, 6), "", 60, 90),
    Release((10, 12), "and later", 75, 121),
    Release((11, 0), "and later", 75, 121),
)


def delivered_in(
    folder: Path,
    plan: PrecisionPlan,
    described: CalibratedNetwork,
    options: EngineOptions,
    weak_missing: str | None = None,
) -> Delivered:
    """What a run folder delivers for `plan`; `weak_missing` says why there is no weak.onnx, if that is known."""
    constraints, held = folder / "constraints.json", tuple(plan.counts())
    told = from_json(constraints.read_text(encoding="utf-8"), dict[str, Precision]) if constraints.is_file() else None
    shapes = shape_ranges(described.model.inputs, described.sample_shapes, described.batch, options.shapes)
    return Delivered(held, told, weak_missing or "no weak.onnx was written, the report says why", shapes, options)


def routes_of(delivered: Delivered, sm: int) -> tuple[Route, ...]:
    """Every way to an engine on a device of compute capability `sm`, times ten, the newest TensorRT last."""
    releases = [one for one in _JETSON.get(sm, _ELSEWHERE) if one.serves(sm)]
    return tuple(route for release in releases for route in routes_with(release, delivered, sm))


def routes_with(release: Release, delivered: Delivered, sm: int) -> tuple[Route, ...]:
    """What one TensorRT makes of the files on a GPU of compute capability `sm` (times ten)."""
    makers = [_weak] if release.version < _DOCUMENTED_STRONG else []
    makers += [_typed] if release.version[0] >= _FIRST_STRONG else []
    return tuple(make(release, delivered, sm) for make in makers)


def _typed(release: Release, delivered: Delivered, sm: int) -> Route:
    refusal = _lacking(release, delivered, sm)
    note = ""
    if release.version < _DOCUMENTED_STRONG:
        note = "NVIDIA documents strong typing fully from 10.12 on: if it refuses the file, build weak.onnx"
    command = trtexec_command(
        "typed.onnx", delivered.options, "strong", delivered.shapes, release.version[0], save="model.plan"
    )
    return Route(release.name, "typed.onnx", "" if refusal else command, refusal, "" if refusal else note)


def _weak(release: Release, delivered: Delivered, sm: int) -> Route:
    constraints = delivered.constraints
    refusal = delivered.weak_missing if constraints is None else _lacking(release, delivered, sm)
    if refusal:
        return Route(release.name, "weak.onnx", refusal=refusal)
    named = constraints or {}
    if any(sign in layer for layer in named for sign in _PARSER_SPLITS):
        note = "trtexec takes names with , or : apart, so that constraints.json cannot be told to it"
        return Route(release.name, "weak.onnx", shlex.join(["trt-mpq", "engine", "."]), note=note)
    quantized = [precision for precision in delivered.held if precision.quantized]
    command = trtexec_command(
        "weak.onnx", delivered.options, "weak", delivered.shapes, release.version[0], named, quantized, "model.plan"
    )
    return Route(release.name, "weak.onnx", command)


def _lacking(release: Release, delivered: Delivered, sm: int) -> str:
    """Why the plan's precisions cannot be there; empty if they can."""
    for precision in delivered.held:
        first_sm, first = precision.spec.first_sm, precision.spec.tensorrt
        if sm < first_sm:
            needed, here = capabilities_text([first_sm]), capabilities_text([sm])
            return f"{precision.name} needs compute capability {needed}, this has {here}"
        if release.version < first:
            return f"{precision.name} needs TensorRT {first[0]}.{first[1]} or later"
    return ""
