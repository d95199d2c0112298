"""A device that does not exist: kernels of hidden cost, timed with noise, as TensorRT would show them.

Written against the documentation of TensorRT's Q/DQ fusion, not against the code under test: it walks tensors.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from tests.fixtures_groups import make_group, make_grouping
from trt_mpq.latency.device_table import DeviceTable, Provenance
from trt_mpq.latency.fitting import fit
from trt_mpq.latency.probing import ProbedEngine, probing_plans
from trt_mpq.types import Grouping, LayerGroup, LooseOp, Precision, PrecisionPlan
from trt_mpq.types.engine import EngineLayer, EngineTensor, LayerRole, Platform

FP32, FP16, BF16, FP8, INT8, INT4 = map(Precision, ("fp32", "fp16", "bf16", "fp8", "int8", "int4"))
BITS = {FP32: 32, FP16: 16, FP8: 8, INT8: 8}
PLATFORM = Platform("NVIDIA Imaginary 1000", 89, "10.16.1", "13.0", "590.10")
PROVENANCE = Provenance("ab" * 32, 4, PLATFORM, "2026-11-24T03:00:00+00:00", {"rounds": "30"})


def residual_network(blocks: int, seed: int, *, without_int8: Collection[str] = ()) -> Grouping:
    """A stem, blocks of two convolutions with a skip, a pool outside every group, and a classifier."""
    rng = np.random.default_rng(seed)
    groups: list[LayerGroup] = []

    def add(name: str, reads: list[str], sizes: tuple[int, int], flops: int) -> str:
        excluded = {INT8: "too small"} if name in without_int8 else {}
        amounts = {"input_elements": sizes[0], "output_elements": sizes[1], "flops": flops, "weights": 1000}
        groups.append(make_group(name, reads, index=len(groups), excluded=excluded, **amounts))
        return f"{name}.out"

    size = 400_000
    trunk = add("stem", ["x"], (150_000, size), 10**8)
    for i in range(blocks):
        inner = int(size * rng.uniform(0.25, 1.0))
        middle = add(f"b{i}a", [trunk], (size, inner), int(rng.uniform(1, 9) * 10**8))
        trunk = add(f"b{i}b", [middle, trunk], (inner + size, size), int(rng.uniform(1, 9) * 10**8))
    add("head", ["pool.out"], (512, 1000), 10**6)
    return make_grouping(groups, [LooseOp("pool", "GlobalAveragePool", (trunk,), {"pool.out": 512}, size)])


@dataclass
class Device:
    """Hidden costs in milliseconds, and how the device shows or hides them.

    Timing a layer by itself takes `profiling` times as long and `profiling_ms` more. Layers scatter by `noise`.
    `fused` names pairs of neighbouring groups that always share a kernel; `hidden` names groups whose layer says
    nothing; `silent` makes the conversions of boundaries part of their readers' kernels.
    """

    grouping: Grouping
    seed: int = 0
    noise: float = 0.0
    launch_ms: float = 0.003
    ms_per_byte: float = 4e-9
    profiling: float = 1.25
    profiling_ms: float = 0.0
    fused: Collection[tuple[str, str]] = ()
    hidden: Collection[str] = ()
    silent: bool = False
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        rates = {FP32: 20e9, FP16: 60e9, FP8: 105e9, INT8: 110e9}
        self.kernels = {
            (group.id, precision): 0.002 + PROVENANCE.batch * group.flops / rate / self.rng.uniform(0.5, 1.0)
            for group in self.grouping.groups
            for precision, rate in rates.items()
        }

    def stored(self, plan: dict[str, Precision], tensor: str) -> Precision:
        makers = [g for g in self.grouping.groups if g.output == tensor]
        if not makers:
            return FP16 if any(op.output == tensor for op in self.grouping.loose) else FP32
        readers = [plan[g.id] for g in self.grouping.groups for read in g.inputs if read.tensor == tensor]
        readers += [FP16 for op in self.grouping.loose if tensor in op.inputs]
        own = plan[makers[0].id]
        if own in (FP8, INT8) and readers and set(readers) == {own}:
            return own
        return FP32 if own is FP32 else FP16

    def group_ms(self, plan: dict[str, Precision], group: LayerGroup) -> float:
        """True time of a group's kernel: its arithmetic, and what it writes."""
        written = PROVENANCE.batch * group.output_elements * BITS[self.stored(plan, group.output)] / 8
        return self.kernels[group.id, plan[group.id]] + 2 * self.ms_per_byte * written

    def run(self, plan: PrecisionPlan) -> tuple[list[EngineLayer], dict[str, float], float]:
        """Layers, the true time of each, and the true time of the engine."""
        precisions, layers, ms, paid = plan.as_dict(), [], {}, set()
        elements = {g.output: g.output_elements for g in self.grouping.groups} | {"x": 150_000, "pool.out": 512}
        partner = {second: first for first, second in self.fused}

        def add(name: str, role: LayerRole, time: float, groups: tuple[str, ...] = (), tensors: tuple = ((), ())):
            layers.append(EngineLayer(name, "layer", role, groups, (), *tensors))
            ms[name] = time

        def tensor(name: str, precision: Precision) -> EngineTensor:
            return EngineTensor(name, precision.value, "Row major linear", (-1, elements[name]))

        for group in self.grouping.groups:
            wanted, waited = precisions[group.id], 0.0
            for read in group.inputs:
                name, stored = read.tensor, self.stored(precisions, read.tensor)
                if stored is wanted or (name, wanted) in paid:
                    continue
                paid.add((name, wanted))
                moved = PROVENANCE.batch * elements[name] * (BITS[stored] + BITS[wanted]) / 8
                time = self.launch_ms + self.ms_per_byte * moved
                if self.silent:
                    waited += time
                else:
                    sides = (tensor(name, stored),), (tensor(f"{name}", wanted),)
                    add(f"{name} to {wanted}", "quantize", time, tensors=sides)
            time = self.group_ms(precisions, group) + waited
            if group.id in partner:
                ms[partner[group.id]] += time
            elif group.id in self.hidden:
                add(group.id, "other", time)
            else:
                shared = tuple(second for first, second in self.fused if first == group.id)
                add(group.id, "group", time, (group.id, *shared))
        add("pool", "other", 0.02)
        add("output to fp32", "reformat", self.launch_ms, tensors=((tensor("pool.out", FP16),),) * 2)
        return layers, ms, sum(ms.values())

    def probe(self, plan: PrecisionPlan) -> ProbedEngine:
        """What a session on the device measures: medians that scatter, and a profiler that slows layers down."""
        layers, ms, total = self.run(plan)
        timed = {name: (time * self.profiling + self.profiling_ms) * self._scatter() for name, time in ms.items()}
        return ProbedEngine(plan, total * self._scatter(0.3), tuple(layers), timed)

    def _scatter(self, part: float = 1.0) -> float:
        """Whole engines are timed for longer than layers and scatter less."""
        return float(np.exp(self.noise * part * self.rng.standard_normal()))

    def probes(self, *precisions: Precision) -> list[ProbedEngine]:
        return [self.probe(plan) for _, plan in probing_plans(self.grouping, precisions)]

    def table(self, *precisions: Precision) -> DeviceTable:
        return fit(self.probes(*precisions), self.grouping, PROVENANCE)
