"""A pool: gives parts to workers, starts new ones for those that die, and returns results in order."""

from __future__ import annotations

import pickle
import weakref
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from threading import Thread
from typing import Any

from trt_mpq.errors import RuntimeFailure, TrtMpqError
from trt_mpq.workers.base import Initializer, Worker, WorkerDied, WorkerHost

TRIES = 3
"""Workers that may die over one part before the run gives up."""
_AHEAD = 2
"""Parts for each worker that are begun before the result of the first of them is taken."""


class WorkerPool:
    """Workers of one kind, started when there is work, or before.

    They end with `close`, with this object, and with this process however that ends.

    Args:
        host: Where they are started.
    """

    def __init__(self, host: WorkerHost[Any]) -> None:
        self._host = host
        self._workers: list[Worker] = []
        self._starting = Thread()
        weakref.finalize(self, _stop, self._workers)

    @property
    def count(self) -> int:
        """How many parts are done side by side."""
        return self._host.count

    def start(self) -> None:
        """Start all workers, in the background: there will be work. Whatever prevents it is said then."""
        self._starting = Thread(target=self._start_all, daemon=True)
        self._starting.start()

    def map(self, initializer: Initializer, parts: Iterable[Any], prefetch: int = 0) -> Iterator[Any]:
        """What the work that `initializer` returns makes of every part, in the order of `parts`.

        Parts are taken as workers get free, a few ahead of what is asked for. Workers stay for more, and ready for the
        same initializer. A part whose worker dies is given to another. Where the iteration ends early, by an error say,
        work in progress is stopped.

        Args:
            initializer: Opens the work.
            parts: What to do.
            prefetch: Parts that wait at a worker while it does one: for those that take less time than their way there.

        Raises:
            RuntimeFailure: Workers died over one part again and again.
            Exception: What a part raised, at its earliest.
        """
        self._wait_for_start()
        state = _MapState(pickle.dumps(initializer), map(pickle.dumps, parts), self.count * (1 + prefetch))
        try:
            for number in count():
                self._give_out(state, number)
                while number not in state.results:
                    if not state.busy:
                        return
                    for worker in self._host.ready(tuple(state.busy)):
                        self._take(worker, state)
                    self._give_out(state, number)  # so that nobody is idle while the result is looked at
                yield state.results.pop(number)
        finally:
            if state.busy:
                self.close()

    def close(self) -> None:
        """End all workers; more work starts new ones."""
        self._wait_for_start()
        _stop(self._workers)

    def _give_out(self, state: _MapState, wanted: int) -> None:
        """Have every worker do a part, of those that are begun while the result of the part `wanted` is waited for."""
        while state.has_room and (number := state.take(wanted + _AHEAD * self.count)) is not None:
            worker = self._least_busy(state)
            try:
                worker.submit(state.initializer, state.parts[number])
                state.busy.setdefault(worker, deque()).append(number)
            except WorkerDied as death:
                self._replace(worker, state, (*state.busy.pop(worker, ()), number), death)

    def _least_busy(self, state: _MapState) -> Worker:
        """An idle worker, or else a new one, or else one with the fewest parts."""
        least = min(self._workers, key=state.load, default=None)
        if least is None or (state.load(least) and len(self._workers) < self.count):
            least = self._start()
        return least

    def _start_all(self) -> None:
        with suppress(TrtMpqError, OSError):
            while len(self._workers) < self.count:
                self._start()

    def _start(self) -> Worker:
        worker: Worker = self._host.start()
        self._workers.append(worker)
        return worker

    def _wait_for_start(self) -> None:
        if self._starting.is_alive():
            self._starting.join()

    def _take(self, worker: Worker, state: _MapState) -> None:
        try:
            outcome = worker.outcome()
        except WorkerDied as death:
            self._replace(worker, state, state.busy.pop(worker), death)
            return
        number = state.done_by(worker)
        if outcome.error is not None:
            raise outcome.error
        state.results[number] = outcome.result
        del state.parts[number]

    def _replace(self, worker: Worker, state: _MapState, numbers: Sequence[int], death: WorkerDied) -> None:
        """Give the parts `numbers` to others; it died over the first of them."""
        self._workers.remove(worker)
        worker.stop()
        state.deaths[numbers[0]] += 1
        if state.deaths[numbers[0]] == TRIES:
            raise RuntimeFailure(
                f"{TRIES} workers died over the same piece of work (the last one {death}): choose fewer --workers or a "
                "smaller --batch if memory ran out; the same command goes on where it stopped"
            )
        state.waiting.extendleft(reversed(numbers))


class _MapState:
    """The state of one `WorkerPool.map`: parts that wait, that workers have, and that are done but not yet wanted.

    Args:
        initializer: What opens the work, pickled.
        parts: What to do, each pickled.
        most: Parts that all workers together may have.
    """

    def __init__(self, initializer: bytes, parts: Iterator[bytes], most: int) -> None:
        self.initializer, self._to_come, self._taken, self._most = initializer, parts, 0, most
        self.parts: dict[int, bytes] = {}
        """Those that workers have, and those that wait for another worker."""
        self.waiting: deque[int] = deque()
        self.busy: dict[Worker, deque[int]] = {}
        self.results: dict[int, Any] = {}
        self.deaths: Counter[int] = Counter()

    @property
    def has_room(self) -> bool:
        """Whether a worker may be given one more part."""
        return sum(map(len, self.busy.values())) < self._most

    def load(self, worker: Worker) -> int:
        """How many parts the worker has."""
        return len(self.busy.get(worker, ()))

    def take(self, end: int) -> int | None:
        """Number of the part to be done next, if it is below `end`; None if there is none."""
        if self.waiting:
            return self.waiting.popleft()
        part = next(self._to_come, None) if self._taken < end else None
        if part is None:
            return None
        self.parts[self._taken] = part
        self._taken += 1
        return self._taken - 1

    def done_by(self, worker: Worker) -> int:
        """Number of the part that the worker is done with: it does them in the order in which it got them."""
        number = self.busy[worker].popleft()
        if not self.busy[worker]:
            del self.busy[worker]
        return number


def _stop(workers: list[Worker]) -> None:
    while workers:
        workers.pop().stop()
