"""How a Python program is told what a run does: by lines, by its own function, or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trt_mpq.types import Observer, SilentObserver

if TYPE_CHECKING:
    from trt_mpq.types import Evaluation, Progress


class Lines(SilentObserver):
    """Prints a line for every stage that did work, which notebooks and log files take alike."""

    @contextmanager
    def stage(self, title: str) -> Iterator[Progress]:
        """Say the stage and how long it took when it is done."""
        from trt_mpq.report.wording import duration_text

        started = time.monotonic()
        yield lambda done, total: None
        print(f"{title}: {duration_text(time.monotonic() - started)}", flush=True)

    def note(self, text: str) -> None:
        """Print the sentence."""
        print(f"note: {text}", flush=True)


class Called(SilentObserver):
    """Calls a function as ``progress(stage, done, total)``: with 0 of 0 when a stage begins, 1 of 1 when it ends."""

    def __init__(self, function: Callable[[str, int, int], None]) -> None:
        self._function = function
        self._plans = 0

    @contextmanager
    def stage(self, title: str) -> Iterator[Progress]:
        """Tell how far the stage is."""
        self._function(title, 0, 0)
        yield lambda done, total: self._function(title, done, total)
        self._function(title, 1, 1)

    def evaluated(self, evaluation: Evaluation, metric: str, required: float) -> None:
        """Tell how many plans were tried."""
        self._plans += 1
        self._function("Plans tried", self._plans, 0)


def observer_of(progress: bool | Callable[[str, int, int], None] | Observer) -> Observer:
    """The observer that `progress` asks for: True prints lines, False is silent."""
    if isinstance(progress, bool):
        return Lines() if progress else SilentObserver()
    return progress if isinstance(progress, Observer) else Called(progress)
