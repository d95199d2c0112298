"""What one timed engine tells: times of groups, of conversions and of the rest, beside what its plan asks for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from trt_mpq.errors import RuntimeFailure
from trt_mpq.latency.dataflow import Dataflow, Formats, Reformat
from trt_mpq.latency.device_table.values import ProbedEngine
from trt_mpq.types import LayerGroup, PrecisionPlan
from trt_mpq.types.engine import EngineLayer, EngineTensor

_ELEMENT_BYTES: dict[str, float] = {
    "fp32": 4, "int32": 4, "int64": 8, "fp16": 2, "bf16": 2, "fp8": 1, "int8": 1, "uint8": 1, "bool": 1, "int4": 0.5,
}  # fmt: skip
_LEAST_PART = 0.1
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Conversion:
    """One conversion kernel of an engine. `moved_bytes` is None where TensorRT hides what it reads or writes."""

    ms: float
    moved_bytes: float | None


@dataclass(frozen=True)
class Observation:
    """One engine, sorted. Times are milliseconds of its layers.

    Attributes:
        plan: What it was built from.
        formats: What the plan means for its tensors.
        asked: The conversions that its boundaries ask for.
        group_ms: Time of every group that can be seen; the others are inside layers that name no group.
        blurred: Groups in a layer with groups of another precision, whose time says little about either.
        conversions: The conversion kernels it runs.
        other_ms: Time of all other layers.
        gpu_ms: Time of the whole engine.
    """

    plan: PrecisionPlan
    formats: Formats
    asked: tuple[Reformat, ...]
    group_ms: Mapping[str, float]
    blurred: frozenset[str]
    conversions: tuple[Conversion, ...]
    other_ms: float
    gpu_ms: float

    def hides(self, group: str) -> bool:
        """Whether no layer tells the time of `group`."""
        return group not in self.group_ms


@dataclass(frozen=True)
class Profiling:
    """How times of single layers relate to the time of the engine they are from.

    Attributes:
        layer_ms: Constant to take off every layer's time; negative if layers take longer together than apart.
        scale: Factor on the sum of what is left.
    """

    layer_ms: float
    scale: float

    def without(self, ms: float) -> float:
        """A layer's time without what profiling adds, but not less than a small part of it."""
        return max(ms - self.layer_ms, _LEAST_PART * ms)


def profiling_of(engines: Sequence[ProbedEngine]) -> Profiling:
    """What timing layers one by one adds: either a constant per layer or a factor, whichever explains the engines.

    Events around short kernels add a constant, lower clocks a factor; two engines of different depth tell them apart.

    Raises:
        RuntimeFailure: An engine has no time, or none of its layers has.
    """
    times = [[ms for ms in engine.layer_ms.values() if ms > 0] for engine in engines]
    gpu_ms = np.array([engine.gpu_ms for engine in engines])
    if not all(times) or gpu_ms.min() <= 0:
        raise RuntimeFailure("TensorRT gave no times for the layers of an engine: no device table can be made of it")
    total_ms, layers = np.array([sum(ms) for ms in times]), np.array([len(ms) for ms in times])
    scale, constant = float(np.median(gpu_ms / total_ms)), float(np.median((total_ms - gpu_ms) / layers))
    misses = [np.abs(sums / gpu_ms - 1).sum() for sums in (scale * total_ms, total_ms - constant * layers)]
    return Profiling(0.0, scale) if misses[0] <= misses[1] + _ROUNDING else Profiling(constant, 1.0)


def observe(
    engine: ProbedEngine, flow: Dataflow, groups: Sequence[LayerGroup], batch: int, profiling: Profiling
) -> Observation:
    """Sort the layers of `engine`. A layer that holds several groups is divided by their arithmetic.

    Args:
        engine: What was measured.
        flow: Dataflow of the model.
        groups: Its groups.
        batch: Samples per inference, which a tensor shows as -1 if its shape is dynamic.
        profiling: What to take off the times of layers.
    """
    layer_ms = {name: profiling.without(ms) for name, ms in engine.layer_ms.items() if ms > 0}
    flops = {group.id: float(group.flops) for group in groups}
    group_ms: dict[str, float] = defaultdict(float)
    precisions = engine.plan.as_dict()
    blurred: set[str] = set()
    conversions = []
    for layer in engine.layers:
        ms = layer_ms.get(layer.name)
        if ms is None:
            continue
        if layer.role == "group":
            for group, share in divided({name: flops[name] for name in layer.groups}).items():
                group_ms[group] += ms * share
            if len({precisions[group] for group in layer.groups}) > 1:
                blurred.update(layer.groups)
        elif layer.role in ("reformat", "quantize"):
            conversions.append(Conversion(ms, _moved_bytes(layer, batch)))
    other = max(0.0, sum(layer_ms.values()) - sum(group_ms.values()) - sum(conversion.ms for conversion in conversions))
    formats = flow.formats(engine.plan)
    return Observation(
        plan=engine.plan,
        formats=formats,
        asked=flow.reformats(formats),
        group_ms=group_ms,
        blurred=frozenset(blurred),
        conversions=tuple(conversions),
        other_ms=other,
        gpu_ms=engine.gpu_ms,
    )


def divided(amounts: Mapping[str, float]) -> dict[str, float]:
    """Each amount as a share of all, equal shares if all are zero."""
    total = sum(amounts.values())
    return {name: amount / total if total else 1 / len(amounts) for name, amount in amounts.items()}


def _moved_bytes(layer: EngineLayer, batch: int) -> float | None:
    sizes = [_tensor_bytes(tensor, batch) for tensor in (*layer.inputs, *layer.outputs)]
    known = [size for size in sizes if size is not None]
    return sum(known) if layer.inputs and layer.outputs and len(known) == len(sizes) else None


def _tensor_bytes(tensor: EngineTensor, batch: int) -> float | None:
    shape = [batch if axis == 0 and size < 0 else size for axis, size in enumerate(tensor.shape)]
    if tensor.datatype not in _ELEMENT_BYTES or any(size < 0 for size in shape):
        return None
    return prod(shape) * _ELEMENT_BYTES[tensor.datatype]
