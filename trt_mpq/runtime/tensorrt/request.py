"""What one engine build is asked to do: a value that travels to the build process as JSON."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trt_mpq.errors import SettingsError
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Precision, TensorSpec
from trt_mpq.types.engine import Flavour, Shape, ShapeRange, Typing

_SHAPE = re.compile(r"[1-9]\d*(x[1-9]\d*)*")


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """One engine build.

    Attributes:
        onnx: Path of the network.
        engine: Path of the engine to write, NAME.plan; NAME.layers.json and NAME.log lie beside it.
        typing: How precision reaches the builder, already resolved.
        constraints: ONNX node name to FP16 or FP32, for weak typing only; what runs in 8 bit is left to its Q/DQ,
            unless the plan goes through the builder API, which is told INT8 too.
        shapes: Optimization profile of the dynamic inputs.
        options: What the deployer asked for.
        timing_cache: Folder of timing caches.
        flavour: Which TensorRT builds it.
        capabilities: Compute capabilities, times ten, that TensorRT for RTX compiles for.
        at_hand: Whether it compiles for the GPU of this machine, and its engine can be looked at.

    Raises:
        ValueError: There are constraints with strong typing, or for another precision; or capabilities for TensorRT
            itself, which builds for the GPU it finds.
    """

    onnx: str
    engine: str
    typing: Typing
    constraints: Mapping[str, Precision] = field(default_factory=dict)
    shapes: Mapping[str, ShapeRange] = field(default_factory=dict)
    options: EngineOptions
    timing_cache: str
    flavour: Flavour = "tensorrt"
    capabilities: tuple[int, ...] = ()
    at_hand: bool = False

    def __post_init__(self) -> None:
        if self.constraints and self.typing == "strong":
            raise ValueError("a strongly typed network takes no precision constraints")
        told = {Precision.FP16, Precision.FP32} | ({Precision.INT8} if self.options.through == "builder-api" else set())
        if not set(self.constraints.values()) <= told:
            raise ValueError("only FP16 and FP32 are constraints: Q/DQ in the network says what runs in 8 bit")
        if (self.flavour == "rtx") != bool(self.capabilities):
            raise ValueError("TensorRT for RTX compiles for compute capabilities, TensorRT itself for the GPU it finds")

    @property
    def memory_limit_mib(self) -> int:
        """What TensorRT for RTX may allocate: as the options say, else three quarters of the machine's memory."""
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return self.options.compile_memory_mib or 3 * physical // (4 << 20)


def layers_file(engine: Path) -> Path:
    """The engine inspector's JSON beside the engine NAME.plan."""
    return engine.with_suffix(".layers.json")


def log_file(engine: Path) -> Path:
    """TensorRT's warnings and errors beside the engine NAME.plan."""
    return engine.with_suffix(".log")


def shape_ranges(
    inputs: tuple[TensorSpec, ...], sample_shapes: Mapping[str, Shape], batch: int, given: tuple[str, ...]
) -> dict[str, ShapeRange]:
    """The optimization profile: what the user gave, and for the other dynamic inputs what the run needs.

    By default a dynamic dimension that counts rows of the batch goes from 1 to `batch`, which is the optimum, and
    every other dynamic dimension has the size it has in the data.

    Args:
        inputs: Inputs of the model.
        sample_shapes: Input name to the shape of one sample, batch dimension included.
        batch: Samples per inference of this run.
        given: Ranges as NAME=MIN:OPT:MAX with shapes such as 1x3x224x224.

    Returns:
        Input name to range, for the dynamic inputs only; empty for a model of fixed shapes.

    Raises:
        SettingsError: A range is malformed or contradictory, does not fit its input, or leaves out the batch.
    """
    ranges = _parsed(inputs, given)
    for spec in inputs:
        if spec.name in ranges:
            _check(spec, ranges[spec.name], batch)
    return {
        spec.name: ranges.get(spec.name) or _default(spec, sample_shapes[spec.name], batch)
        for spec in inputs
        if any(isinstance(size, str) for size in spec.shape)
    }


def _parsed(inputs: tuple[TensorSpec, ...], given: tuple[str, ...]) -> dict[str, ShapeRange]:
    known = [spec.name for spec in inputs]
    ranges: dict[str, ShapeRange] = {}
    for text in given:
        name, _, shapes = text.rpartition("=")  # a name may hold "=" and ":", shapes hold neither
        parts = shapes.split(":")
        if not name or len(parts) != 3 or not all(_SHAPE.fullmatch(part) for part in parts):
            raise SettingsError(f"shapes {text!r} is not NAME=MIN:OPT:MAX with shapes such as 1x3x224x224")
        if name not in known:
            raise SettingsError(f"shapes {text!r}: the model has no input {name!r}, its inputs are {', '.join(known)}")
        if name in ranges:
            raise SettingsError(f"shapes are given twice for input {name!r}")
        ranges[name] = ShapeRange(*(tuple(int(size) for size in part.split("x")) for part in parts))
    return ranges


def _check(spec: TensorSpec, given: ShapeRange, batch: int) -> None:
    declared = _text(spec.shape)
    shapes = (given.minimum, given.optimum, given.maximum)
    if any(len(shape) != len(spec.shape) for shape in shapes):
        raise SettingsError(f"shapes for input {spec.name!r} must have its {len(spec.shape)} dimensions, {declared}")
    for size, sizes in zip(spec.shape, zip(*shapes, strict=True), strict=True):
        if isinstance(size, int) and set(sizes) != {size}:
            raise SettingsError(f"shapes for input {spec.name!r} contradict the model, which fixes {declared}")
        if list(sizes) != sorted(sizes):
            raise SettingsError(f"shapes for input {spec.name!r} must grow from minimum over optimum to maximum")
    rows = spec.batch_axis
    if (
        rows is not None
        and isinstance(spec.shape[rows], str)
        and not given.minimum[rows] <= batch <= given.maximum[rows]
    ):
        raise SettingsError(f"shapes for input {spec.name!r} leave out the batch of this run, {batch}")


def _default(spec: TensorSpec, sample: Shape, batch: int) -> ShapeRange:
    def sized(rows: int) -> Shape:
        found = (rows if axis == spec.batch_axis else size for axis, size in enumerate(sample))
        return tuple(size if isinstance(size, int) else own for size, own in zip(spec.shape, found, strict=True))

    return ShapeRange(sized(1), sized(batch), sized(batch))


def _text(shape: tuple[int | str, ...]) -> str:
    return "x".join(str(size) for size in shape)
