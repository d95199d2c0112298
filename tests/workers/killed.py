"""Runs that are killed again and again: `python -m tests.workers.killed FOLDER KILLS EVENTS FIELDS`, FIELDS being JSON.

A run is a fork of this process, and no interpreter of its own, which would take longer to import than the run takes.
Whether a kill comes early or late is told by what the run reported so far: a clock would say little on a busy machine.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnxruntime  # noqa: F401, TID253 - before the fork
import polygraphy.comparator  # noqa: F401, TID253

from tests.workers.work import alive, soon, workers_of
from trt_mpq.pipeline.run import Run
from trt_mpq.settings import settings_from
from trt_mpq.types import Evaluation
from trt_mpq.types.observer import Progress, SilentObserver


class Telling(SilentObserver):
    """Writes a byte to `pipe` for everything that happens."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    @contextmanager
    def stage(self, title: str) -> Iterator[Progress]:
        self._tell()
        yield lambda done, total: self._tell()

    def evaluated(self, evaluation: Evaluation, metric: str, required: float) -> None:
        self._tell()

    def _tell(self) -> None:
        os.write(self._pipe, b".")


def started(fields: dict[str, Any], folder: Path) -> tuple[int, int]:
    """Process id of a run, and the end of its pipe."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child:
        os.close(theirs)
        return child, ours
    os.close(ours)
    Run(settings_from(fields, "test"), folder, Telling(theirs), "trt-mpq build").report()
    os._exit(0)


def main(folder: Path, kills: int, events: int, fields: dict[str, Any]) -> None:
    """Kill runs of so many `events`, in a new folder after one that was quicker; print how many workers lost theirs."""
    generator, number, orphans = random.Random(0), 0, set[int]()
    while kills:
        run, pipe = started(fields, folder / str(number))
        for _ in range(1 + int(events * generator.random() ** 2)):  # early ones more often: what is resumed is shorter
            if not os.read(pipe, 1):
                break
        time.sleep(generator.uniform(0, 0.03))
        orphans.update(workers_of(run))
        os.kill(run, signal.SIGKILL)
        _, status = os.waitpid(run, 0)
        os.close(pipe)
        if os.WIFSIGNALED(status):
            kills -= 1
        else:
            assert os.WEXITSTATUS(status) == 0
            number += 1
    assert soon(lambda: not any(map(alive, orphans)), 10), "a worker outlived its run"
    print(len(orphans))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4]))
