"""How a run tells what it is doing, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable

from trt_mpq.types.plan import Evaluation

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)`` while a stage works."""


@runtime_checkable
class Observer(Protocol):
    """Receives the course of a run."""

    def stage(self, title: str) -> AbstractContextManager[Progress]:
        """A stage that does work (not one read back from the run folder) begins; the block is its duration."""

    def evaluated(self, evaluation: Evaluation, metric: str, required: float) -> None:
        """The search tried a plan, whose score by `metric` is to be at least `required`."""

    def note(self, text: str) -> None:
        """Something the user should know; one sentence."""


class SilentObserver:
    """Listens to nothing."""

    @contextmanager
    def stage(self, title: str) -> Iterator[Progress]:
        """Ignore the stage."""
        yield lambda done, total: None

    def evaluated(self, evaluation: Evaluation, metric: str, required: float) -> None:
        """Ignore the plan."""

    def note(self, text: str) -> None:
        """Ignore the sentence."""
