"""Which engines to build to learn what a device charges, and what each tells once its layers are timed.

Few engines suffice, whatever the size of the model. A uniform engine shows every group among neighbours of its own
format. Two engines that alternate along the network show every group beside another format, and between them every
group in both. Together they tell groups from boundaries, and the alternating ones check that costs add up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from trt_mpq.errors import RuntimeFailure, SettingsError
from trt_mpq.latency.dataflow import Dataflow, Formats
from trt_mpq.latency.kernels import Reformat
from trt_mpq.types import Grouping, LayerGroup, Precision, PrecisionPlan
from trt_mpq.types.engine import EngineLayer, EngineTensor

_ELEMENT_BYTES: dict[str, float] = {
    "fp32": 4, "int32": 4, "int64": 8, "fp16": 2, "bf16": 2, "fp8": 1, "int8": 1, "uint8": 1, "bool": 1, "int4": 0.5,
}  # fmt: skip
_LEAST_PART = 0.1
_ROUNDING = 1e-9


def probing_plans(
    grouping: Grouping, precisions: Sequence[Precision], *, mix_formats: bool = False
) -> tuple[tuple[str, PrecisionPlan], ...]:
    """Names and plans of the engines to probe, each plan once, that in high precision first.

    Args:
        grouping: All groups, and their high precision.
        precisions: What the table has to know. The high precision is always among it; FP32 adds a uniform engine only.
        mix_formats: Whether to alternate 8-bit formats with each other as well, where TensorRT allows that.

    Returns:
        At most one plan for the high precision and FP32 each, three per 8-bit format, one per pair of formats if mixed.

    Raises:
        SettingsError: TensorRT has no kernels for one of `precisions`.
    """
    for precision in precisions:
        if not precision.deployable:
            raise SettingsError(f"{precision} cannot be measured, TensorRT has no kernels for it: leave it out")
    named: dict[PrecisionPlan, str] = {}
    for name, plan in _candidates(grouping, precisions, mix_formats):
        named.setdefault(plan, name)
    return tuple((name, plan) for plan, name in named.items())


def _candidates(
    grouping: Grouping, precisions: Sequence[Precision], mix_formats: bool
) -> Iterator[tuple[str, PrecisionPlan]]:
    formats = [precision for precision in Precision if precision in precisions and precision.quantized]
    uniform = {p: grouping.uniform(p) for p in Precision}
    high = uniform[grouping.top]
    yield grouping.top.value, high
    if Precision.FP32 in precisions:
        yield Precision.FP32.value, uniform[Precision.FP32]
    for precision in formats:
        yield precision.value, uniform[precision]
        yield f"{precision}-even", _alternated(uniform[precision], high)
        yield f"{precision}-odd", _alternated(high, uniform[precision])
    if mix_formats:
        for i, first in enumerate(formats):
            for second in formats[i + 1 :]:
                yield f"{first}-{second}", _alternated(uniform[first], uniform[second])


def _alternated(even: PrecisionPlan, odd: PrecisionPlan) -> PrecisionPlan:
    """Groups of `even` and `odd` in turns; where both plans agree there is nothing to alternate."""
    pairs = zip(even.assignments, odd.assignments, strict=True)
    chosen, turn = [], 0
    for one, other in pairs:
        chosen.append(other if turn % 2 else one)
        turn += one != other
    return PrecisionPlan(tuple(chosen))


@dataclass(frozen=True)
class ProbedEngine:
    """An engine that was built from `plan` and timed.

    Attributes:
        plan: The precision of every group.
        gpu_ms: Median time of one inference on the GPU.
        layers: The engine's layers.
        layer_ms: Layer name to median time, from a run with TensorRT's profiler.
    """

    plan: PrecisionPlan
    gpu_ms: float
    layers: tuple[EngineLayer, ...]
    layer_ms: Mapping[str, float]


@dataclass(frozen=True)
class Profiling:
    """How times of single layers relate to the time of the engine they are from.

    Attributes:
        layer_ms: Constant to take off every layer's time; negative if layers take longer together than apart.
        scale: Factor on the sum of what is left.
    """

    layer_ms: float
    scale: float

    @classmethod
    def of(cls, engines: Sequence[ProbedEngine]) -> Profiling:
        """What timing layers one by one adds: a constant per layer or a factor, whichever explains the engines.

        Events around short kernels add a constant, lower clocks a factor; two engines of different depth tell them
        apart.

        Raises:
            RuntimeFailure: An engine has no time, or none of its layers has.
        """
        times = [[ms for ms in engine.layer_ms.values() if ms > 0] for engine in engines]
        gpu_ms = np.array([engine.gpu_ms for engine in engines])
        if not all(times) or gpu_ms.min() <= 0:
            raise RuntimeFailure(
                "TensorRT gave no times for the layers of an engine: no device table can be made of it"
            )
        total_ms, layers = np.array([sum(ms) for ms in times]), np.array([len(ms) for ms in times])
        scale, constant = float(np.median(gpu_ms / total_ms)), float(np.median((total_ms - gpu_ms) / layers))
        misses = [np.abs(sums / gpu_ms - 1).sum() for sums in (scale * total_ms, total_ms - constant * layers)]
        return cls(0.0, scale) if misses[0] <= misses[1] + _ROUNDING else cls(constant, 1.0)

    def without(self, ms: float) -> float:
        """A layer's time without what profiling adds, but not less than a small part of it."""
        return max(ms - self.layer_ms, _LEAST_PART * ms)


@dataclass(frozen=True)
class Observation:
    """One engine, sorted. Times are milliseconds of its layers.

    Attributes:
        plan: What it was built from.
        formats: What the plan means for its tensors.
        asked: The conversions that its boundaries ask for.
        group_ms: Time of every group that can be seen; the others are inside layers that name no group.
        blurred: Groups in a layer with groups of another precision, whose time says little about either.
        conversions: Time of every conversion kernel it runs, and the bytes that kernel moves; None where TensorRT
            hides what it reads or writes.
        other_ms: Time of all other layers.
        gpu_ms: Time of the whole engine.
    """

    plan: PrecisionPlan
    formats: Formats
    asked: tuple[Reformat, ...]
    group_ms: Mapping[str, float]
    blurred: frozenset[str]
    conversions: tuple[tuple[float, float | None], ...]
    other_ms: float
    gpu_ms: float

    def hides(self, group: str) -> bool:
        """Whether no layer tells the time of `group`."""
        return group not in self.group_ms


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
            conversions.append((ms, _moved_bytes(layer, batch)))
    formats = flow.formats(engine.plan)
    return Observation(
        plan=engine.plan,
        formats=formats,
        asked=flow.reformats(formats),
        group_ms=group_ms,
        blurred=frozenset(blurred),
        conversions=tuple(conversions),
        other_ms=max(0.0, sum(layer_ms.values()) - sum(group_ms.values()) - sum(ms for ms, _ in conversions)),
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
