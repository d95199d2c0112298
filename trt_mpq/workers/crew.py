"""A crew: gives parts to workers, hires new ones for those that die, and returns results in order."""

from __future__ import annotations

import pickle
import weakref
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any

from trt_mpq.errors import RuntimeFailure
from trt_mpq.workers.base import Opening, Worker, WorkerDied, Workforce

TRIES = 3
"""Workers that may die over one part before the run gives up."""


class Crew:
    """Workers of one kind, hired when there is work.

    They end with `close`, with this object, and with this process however that ends.

    Args:
        workforce: Where they are hired.
    """

    def __init__(self, workforce: Workforce[Any]) -> None:
        self._workforce = workforce
        self._hired: list[Worker] = []
        weakref.finalize(self, _dismiss, self._hired)

    @property
    def count(self) -> int:
        """How many parts are done side by side."""
        return self._workforce.count

    def map(self, opening: Opening, parts: Sequence[Any]) -> Iterator[Any]:
        """What the work that `opening` returns makes of every part, in the order of `parts`.

        Workers stay for more, and ready for the same opening. A part whose worker dies is given to another. Where the
        iteration ends early, by an error say, work in progress is stopped.

        Raises:
            RuntimeFailure: Workers died over one part again and again.
            Exception: What a part raised, at its earliest.
        """
        shift = _Shift(opening, parts)
        try:
            for number in range(len(parts)):
                while number not in shift.results:
                    self._give_out(shift)
                    for worker in self._workforce.ready(tuple(shift.busy)):
                        self._take(worker, shift)
                self._give_out(shift)  # so that nobody is idle while the result is looked at
                yield shift.results.pop(number)
        finally:
            if shift.busy:
                self.close()

    def close(self) -> None:
        """End all workers; more work hires new ones."""
        _dismiss(self._hired)

    def _give_out(self, shift: _Shift) -> None:
        while shift.waiting and (len(shift.busy) < len(self._hired) or len(self._hired) < self.count):
            worker = next((worker for worker in self._hired if worker not in shift.busy), None) or self._hire()
            number = shift.waiting.popleft()
            try:
                worker.begin(shift.opening, shift.parts[number])
                shift.busy[worker] = number
            except WorkerDied as death:
                self._replace(worker, shift, number, death)

    def _hire(self) -> Worker:
        worker: Worker = self._workforce.hire()
        self._hired.append(worker)
        return worker

    def _take(self, worker: Worker, shift: _Shift) -> None:
        number = shift.busy.pop(worker)
        try:
            outcome = worker.outcome()
        except WorkerDied as death:
            self._replace(worker, shift, number, death)
            return
        if outcome.error is not None:
            raise outcome.error
        shift.results[number] = outcome.result

    def _replace(self, worker: Worker, shift: _Shift, number: int, death: WorkerDied) -> None:
        self._hired.remove(worker)
        worker.dismiss()
        shift.deaths[number] += 1
        if shift.deaths[number] == TRIES:
            raise RuntimeFailure(
                f"{TRIES} workers died over the same piece of work (the last one {death}): choose fewer --workers or a "
                "smaller --batch if memory ran out; the same command goes on where it stopped"
            )
        shift.waiting.appendleft(number)


class _Shift:
    """The state of one `Crew.map`: parts that wait, that are being done, and that are done but not yet wanted."""

    def __init__(self, opening: Opening, parts: Sequence[Any]) -> None:
        self.opening = pickle.dumps(opening)
        self.parts = [pickle.dumps(part) for part in parts]
        self.waiting = deque(range(len(parts)))
        self.busy: dict[Worker, int] = {}
        self.results: dict[int, Any] = {}
        self.deaths: Counter[int] = Counter()


def _dismiss(workers: list[Worker]) -> None:
    while workers:
        workers.pop().dismiss()
