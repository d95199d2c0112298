"""Runs that a signal ends again and again: `python -m tests.workers.killed SIGNAL FOLDER KILLS EVENTS FIELDS`, FIELDS
being JSON.

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

import polygraphy.comparator  # noqa: F401, TID253 - before the fork
import typer

from tests.workers.work import alive, soon, workers_of
from trt_mpq.cli.errors import guarded, stop_on_signals
from trt_mpq.pipeline.run import Run
from trt_mpq.runtime.onnxruntime import OnnxRuntime
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
    stop_on_signals()
    run = guarded(lambda: Run(settings_from(fields, "test"), folder, Telling(theirs), "trt-mpq build").report())
    try:
        run()
    except typer.Exit as end:
        os._exit(end.exit_code)
    os._exit(0)


def main(number: signal.Signals, folder: Path, kills: int, events: int, fields: dict[str, Any]) -> None:
    """Send the signal to runs of so many `events`, in a new folder after one that was quicker.

    Prints how many workers lost their run.
    """
    generator, quicker, orphans = random.Random(0), 0, set[int]()
    while kills:
        run, pipe = started(fields, folder / str(quicker))
        for _ in range(1 + int(events * generator.random() ** 2)):  # early ones more often: what is resumed is shorter
            if not os.read(pipe, 1):
                break
        time.sleep(generator.uniform(0, 0.03))
        orphans.update(workers_of(run))
        os.kill(run, number)
        code = os.waitstatus_to_exitcode(os.waitpid(run, 0)[1])
        os.close(pipe)
        if code == 0:
            quicker += 1
        else:
            assert code == (-number if number is signal.SIGKILL else 128 + number)
            kills -= 1
    assert soon(lambda: not any(map(alive, orphans)), 10), "a worker outlived its run"
    print(len(orphans))


if __name__ == "__main__":
    OnnxRuntime()  # imported before the fork, and by ours: its reporting, which it would start, does not survive one
    name, path, *numbers, text = sys.argv[1:]
    main(signal.Signals[name], Path(path), *map(int, numbers), json.loads(text))
