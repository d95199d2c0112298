"""What the timing schedule needs of an engine, so that it can be tested without a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from trt_mpq.runtime.base import Array
from trt_mpq.types.engine import LayerTime


@dataclass(frozen=True)
class Iteration:
    """Times of one inference in milliseconds: enqueueing it on the host's clock, the others between CUDA events."""

    enqueue: float
    h2d: float
    gpu_compute: float
    d2h: float

    @property
    def latency(self) -> float:
        """h2d + gpu_compute + d2h."""
        return self.h2d + self.gpu_compute + self.d2h


@dataclass(frozen=True)
class Turn:
    """Inferences that ran back to back, and the wall time of them all in milliseconds."""

    iterations: tuple[Iteration, ...]
    wall_ms: float


class Timer(Protocol):
    """An engine that is ready to be timed: its inputs are in memory."""

    @property
    def graph_refusal(self) -> str | None:
        """Why the engine cannot be launched as a CUDA graph; None if it can."""

    def turn(self, minimum_ms: float, minimum_iterations: int, *, cuda_graph: bool) -> Turn:
        """Run inferences back to back, for at least that long and that many; the input sets rotate."""

    def layer_times(self, iterations: int) -> tuple[LayerTime, ...]:
        """Median time of every layer over `iterations` inferences without a CUDA graph."""


class Timeable(Protocol):
    """An engine that can be timed."""

    def timer(self, inputs: Sequence[Mapping[str, Array]]) -> AbstractContextManager[Timer]:
        """Allocate these input sets and get ready."""
