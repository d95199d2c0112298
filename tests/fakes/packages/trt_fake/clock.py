"""Simulated time: a host that enqueues, and streams that work through what was enqueued. Milliseconds."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from trt_fake.behaviour import Behaviour

_DRIFT_PERIOD_MS = 20_000.0


@dataclass
class Stream:
    """A queue of the device: when it will have finished what was enqueued.

    While a graph is captured, work and its durations collect in `captured` and `durations`.
    """

    handle: int
    ready: float = 0.0
    captured: list[Callable[[], None]] | None = None
    durations: list[float] = field(default_factory=list)


@dataclass
class Clock:
    """All simulated time of one process."""

    behaviour: Behaviour
    host: float = 0.0
    streams: dict[int, Stream] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = random.Random(self.behaviour.seed)
        self.streams[0] = Stream(0)
        self._next_handle = 0x5000

    def new_stream(self) -> Stream:
        """A stream with a handle of its own."""
        self._next_handle += 0x10
        stream = Stream(self._next_handle)
        self.streams[stream.handle] = stream
        return stream

    def stream(self, handle: int) -> Stream:
        """The stream with `handle`; KeyError if there is none."""
        return self.streams[handle]

    def run(self, stream: Stream, durations: Sequence[float], *, launches: int) -> list[float]:
        """Enqueue kernels of `durations` on `stream`, with `launches` of host work; their noisy durations."""
        noisy = [duration * self._disturbance(stream.ready) for duration in durations]
        each = self.behaviour.enqueue_us / 1e3
        if launches == len(noisy):
            for duration in noisy:
                self.host += each
                stream.ready = max(stream.ready, self.host) + duration
        else:
            self.host += each * launches
            stream.ready = max(stream.ready, self.host) + sum(noisy)
        return noisy

    def wait(self, moment: float) -> None:
        """Let the host wait for `moment`."""
        self.host = max(self.host, moment)

    def perf_counter(self) -> float:
        """Host time in seconds, for `time.perf_counter` of the code under test; reading it costs 50 ns."""
        self.host += 5e-5
        return self.host / 1e3

    def _disturbance(self, moment: float) -> float:
        drift = self.behaviour.drift * math.sin(2 * math.pi * moment / _DRIFT_PERIOD_MS)
        return max(0.5, 1.0 + drift + self._random.gauss(0.0, self.behaviour.noise))
