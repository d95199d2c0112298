"""What the GPU benchmark measured: values, and the file that is whole after every row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import ValidationError

from trt_mpq.artifacts.files import from_json, to_json, write_text
from trt_mpq.errors import RunFolderError
from trt_mpq.settings import EngineOptions
from trt_mpq.types.engine import BuildStatus, Platform, Profile, Ratio


@dataclass(frozen=True)
class Measurement:
    """One engine of one network at one batch size.

    Attributes:
        counts: Groups per precision that the plan asks for.
        typing: How the network was typed.
        status: How the build ended; `reason` says why there is no engine.
        build_seconds: Wall time of the build.
        size_bytes: Size of the engine.
        profile: Its timing; per-layer times are left out. None if there is no engine, as everything below.
        ratio: gpu_compute over that of FP16, with its confidence interval; None for FP16 itself.
        sqnr_fp32_db: Outputs against FP32 in ONNX Runtime, the worst output; None also if bit-equal.
        sqnr_plan_db: Outputs against what the plan computes in ONNX Runtime, the same way.
        groups: Groups of the network.
        agreeing: Groups whose realised precision is the requested one.
        unknown: Groups whose realised precision TensorRT hides.
        disagreements: One sentence per group that is not known to agree.
        unfused: Q, DQ and casts that are kernels of their own.
        reformats: Copies between formats and layouts.
    """

    counts: Mapping[str, int]
    typing: str
    status: BuildStatus
    build_seconds: float
    size_bytes: int
    reason: str = ""
    profile: Profile | None = None
    ratio: Ratio | None = None
    sqnr_fp32_db: float | None = None
    sqnr_plan_db: float | None = None
    groups: int = 0
    agreeing: int = 0
    unknown: int = 0
    disagreements: tuple[str, ...] = ()
    unfused: int = 0
    reformats: int = 0


@dataclass(frozen=True)
class Row:
    """All engines of one network at one batch size.

    Attributes:
        key: Digest of what the row was made from.
        engines: Plan name to what became of it.
        same: Name of a plan to the equal plan that was measured in its place.
        failure: Why the engines could not be run, in one sentence; empty if they could.
    """

    model: str
    batch: int
    key: str
    date: str
    engines: Mapping[str, Measurement] = field(default_factory=dict)
    same: Mapping[str, str] = field(default_factory=dict)
    failure: str = ""


@dataclass(frozen=True)
class Results:
    """Every row of one machine, and how its engines were built and timed."""

    platform: Platform
    options: EngineOptions
    rows: tuple[Row, ...] = ()

    def has(self, model: str, batch: int, key: str) -> bool:
        """Whether that row was measured, from the same things."""
        return any((row.model, row.batch, row.key, row.failure) == (model, batch, key, "") for row in self.rows)

    def with_row(self, row: Row) -> Results:
        """The same with `row` instead of an earlier one for its network and batch."""
        others = [other for other in self.rows if (other.model, other.batch) != (row.model, row.batch)]
        return replace(self, rows=tuple(sorted((*others, row), key=lambda each: (each.model, each.batch))))


def results_file(folder: Path, platform: Platform) -> Path:
    """Where the results of this machine belong: gpu-NAME-trtVERSION.json."""
    gpu = re.sub(r"[^a-z0-9]+", "-", platform.gpu.lower()).strip("-")
    return folder / f"gpu-{gpu}-trt{platform.tensorrt}.json"


def read_results(path: Path, platform: Platform, options: EngineOptions) -> Results:
    """The rows measured so far on this machine; those made in another way are measured again.

    Raises:
        RunFolderError: The file is damaged.
    """
    if not path.exists():
        return Results(platform, options)
    try:
        rows = from_json(path.read_bytes(), Results).rows
    except ValidationError as error:
        raise RunFolderError(f"{path} is damaged or from another version: move it away and run again") from error
    return Results(platform, options, rows)


def write_results(path: Path, results: Results) -> None:
    """Write the file as a whole; raises RunFolderError."""
    write_text(path, to_json(results, Results))
