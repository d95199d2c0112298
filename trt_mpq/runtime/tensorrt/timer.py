"""Timing one engine as trtexec does.

Three streams, for the copies in, the computation and the copies out, each timed between two CUDA events; one
inference is enqueued ahead while another computes, so that the host's work is hidden where it can be. Python takes
about 15 us of the host per inference: the throughput of an engine that is faster than that is bound by it, and its
gpu_compute holds a few microseconds between the first event and the launch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING

from trt_mpq.errors import RuntimeFailure
from trt_mpq.runtime.base import Array
from trt_mpq.runtime.cuda import CudaGraph, Event, Stream, failures
from trt_mpq.runtime.tensorrt.engine import LoadedEngine
from trt_mpq.runtime.tensorrt.layer_times import profile_layers
from trt_mpq.runtime.tensorrt.slot import Slot, fit, set_shapes
from trt_mpq.types.engine import LayerTime

if TYPE_CHECKING:
    import tensorrt as trt

_IN_FLIGHT = 2
"""Inferences enqueued at a time, as in trtexec."""


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


@contextmanager
def engine_timer(engine: LoadedEngine, inputs: Sequence[Mapping[str, Array]]) -> Iterator[EngineTimer]:
    """`engine` ready to be timed on `inputs`, each a mapping of input name to array [batch, ...]."""
    with engine.execution() as context, closing(EngineTimer(engine, context, inputs)) as timer:
        yield timer


class EngineTimer:
    """An engine with its input sets in memory.

    Args:
        engine: The engine.
        context: An execution context of it, used for nothing else.
        inputs: Input sets, all of the same shapes.

    Attributes:
        graph_refusal: Why it cannot be launched as a CUDA graph; None if it can.

    Raises:
        DataError: An input is absent or does not fit the engine's type.
        RuntimeFailure: A shape does not fit, memory ran out, or the engine does not run.
    """

    def __init__(
        self, engine: LoadedEngine, context: trt.IExecutionContext, inputs: Sequence[Mapping[str, Array]]
    ) -> None:
        self._engine, self._context = engine, context
        self._rotation = count()
        with ExitStack() as stack, failures(f"preparing to time {engine.path.name}"):
            self._upload, self._compute, self._download = Stream(), Stream(), Stream()
            self._lanes = [_Lane(self._filled(feeds, stack)) for feeds in inputs]
            for lane in self._lanes:  # the first inference of a context may allocate, which a capture forbids
                lane.slot.upload(self._compute)
                lane.slot.bind(context)
                self._execute(context)
            self._compute.synchronize()
            self.graph_refusal = self._capture(stack)
            self._resources = stack.pop_all()

    def turn(self, minimum_ms: float, minimum_iterations: int, *, cuda_graph: bool) -> Turn:
        """Run inferences back to back, for at least that long and that many; the input sets rotate.

        Raises:
            RuntimeFailure: The engine does not run.
        """
        running: deque[_Lane] = deque()
        finished: list[Iteration] = []
        with failures(f"timing {self._engine.path.name}"):
            started = perf_counter()
            for number in count():
                if number >= minimum_iterations and 1000 * (perf_counter() - started) >= minimum_ms:
                    break
                if len(running) == min(_IN_FLIGHT, len(self._lanes)):
                    finished.append(running.popleft().finish())
                lane = self._lanes[next(self._rotation) % len(self._lanes)]
                self._start(lane, cuda_graph)
                running.append(lane)
            finished.extend(lane.finish() for lane in running)
            return Turn(tuple(finished), 1000 * (perf_counter() - started))

    def layer_times(self, iterations: int) -> tuple[LayerTime, ...]:
        """Median time of every layer over `iterations` inferences without a CUDA graph.

        Raises:
            RuntimeFailure: The engine does not run.
        """
        slot = self._lanes[0].slot
        with self._engine.execution() as context, failures(f"profiling the layers of {self._engine.path.name}"):
            set_shapes(context, slot.input_shapes)
            slot.bind(context)

            def run() -> None:
                self._execute(context)
                self._compute.synchronize()

            return profile_layers(context, run, iterations)

    def close(self) -> None:
        """Free buffers and graphs and let go of the execution context; nothing runs any more."""
        self._resources.close()
        del self._context

    def _filled(self, feeds: Mapping[str, Array], stack: ExitStack) -> Slot:
        fitted, _ = fit(feeds, self._engine.inputs, self._engine.ranges)
        slot = Slot(
            self._context, self._engine.inputs, self._engine.outputs, {n: array.shape for n, array in fitted.items()}
        )
        stack.callback(slot.close)
        slot.fill(fitted)
        return slot

    def _capture(self, stack: ExitStack) -> str | None:
        """Give every lane a CUDA graph; if one cannot be captured, say why, and none is used."""
        try:
            for lane in self._lanes:
                lane.slot.bind(self._context)
                lane.graph = CudaGraph.capture(self._compute, lambda: self._execute(self._context))
                stack.callback(lane.graph.close)
        except RuntimeFailure as error:
            return str(error)
        return None

    def _start(self, lane: _Lane, cuda_graph: bool) -> None:
        """Enqueue one inference; only launching the computation counts as its enqueue time."""
        lane.upload_began.record(self._upload)
        lane.slot.upload(self._upload)
        lane.upload_ended.record(self._upload)
        if not cuda_graph:
            lane.slot.bind(self._context)
        self._compute.wait_for(lane.upload_ended)
        lane.compute_began.record(self._compute)
        before = perf_counter()
        if cuda_graph:
            lane.launch_graph(self._compute)
        else:
            self._execute(self._context)
        lane.enqueue_ms = 1000 * (perf_counter() - before)
        lane.compute_ended.record(self._compute)
        self._download.wait_for(lane.compute_ended)
        lane.download_began.record(self._download)
        lane.slot.download(self._download)
        lane.download_ended.record(self._download)

    def _execute(self, context: trt.IExecutionContext) -> None:
        if not context.execute_async_v3(self._compute.handle):
            raise RuntimeFailure(f"TensorRT cannot run {self._engine.path.name}: {self._engine.complaint()}")


class _Lane:
    """One input set: its buffers, its CUDA graph if there is one, and the events of the inference it is in."""

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.graph: CudaGraph | None = None
        self.enqueue_ms = 0.0
        self.upload_began, self.upload_ended = Event(), Event()
        self.compute_began, self.compute_ended = Event(), Event()
        self.download_began, self.download_ended = Event(), Event()

    def launch_graph(self, stream: Stream) -> None:
        """Enqueue the captured computation; ValueError if it could not be captured."""
        if self.graph is None:
            raise ValueError("this engine has no CUDA graph")
        self.graph.launch(stream)

    def finish(self) -> Iteration:
        """Wait for the inference and read its times."""
        self.download_ended.synchronize()
        return Iteration(
            enqueue=self.enqueue_ms,
            h2d=self.upload_ended.ms_since(self.upload_began),
            gpu_compute=self.compute_ended.ms_since(self.compute_began),
            d2h=self.download_ended.ms_since(self.download_began),
        )
