"""An engine whose times are made up, on a GPU that all engines share and whose clocks drift."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from trt_mpq.runtime.base import Array
from trt_mpq.runtime.tensorrt.timer import Iteration, Turn
from trt_mpq.types.engine import LayerTime


@dataclass
class SimulatedGpu:
    """`drift` is by how much times grow per second that passed; `log` tells every turn and whether it was a graph."""

    drift: float = 0.0
    noise: float = 0.0
    now_ms: float = 0.0
    log: list[tuple[str, bool]] = field(default_factory=list)
    generator: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))


@dataclass
class SimulatedEngine:
    """Takes `compute_ms`; without a CUDA graph it is enqueued in `enqueue_ms` and takes as long as that at least."""

    gpu: SimulatedGpu
    name: str
    compute_ms: float
    enqueue_ms: float = 0.01
    graph_refusal: str | None = None
    closed: bool = False
    input_sets: int = 0

    @contextmanager
    def timer(self, inputs: Sequence[Mapping[str, Array]]) -> Iterator[SimulatedEngine]:
        self.input_sets = len(inputs)
        yield self
        self.closed = True

    def turn(self, minimum_ms: float, minimum_iterations: int, *, cuda_graph: bool) -> Turn:
        assert not self.closed
        assert not (cuda_graph and self.graph_refusal)
        self.gpu.log.append((self.name, cuda_graph))
        iterations: list[Iteration] = []
        began = self.gpu.now_ms
        while len(iterations) < minimum_iterations or self.gpu.now_ms - began < minimum_ms:
            slower = (1 + self.gpu.drift * self.gpu.now_ms / 1000) * self.gpu.generator.normal(1, self.gpu.noise)
            enqueue = 0.002 if cuda_graph else self.enqueue_ms
            compute = max(self.compute_ms * slower, 0.0 if cuda_graph else self.enqueue_ms)
            iterations.append(Iteration(enqueue=enqueue, h2d=0.25, gpu_compute=compute, d2h=0.125))
            self.gpu.now_ms += compute
        return Turn(tuple(iterations), self.gpu.now_ms - began)

    def layer_times(self, iterations: int) -> tuple[LayerTime, ...]:
        return (LayerTime(f"{self.name} conv", self.compute_ms), LayerTime("reformat", iterations / 1000))
