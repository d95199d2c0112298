"""The port through which a stage has its parts done by others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

W = TypeVar("W", bound="Worker")

Work = Callable[[Any], Any]
"""From a part to its result, both small and picklable."""

Initializer = Callable[[], Work]
"""Called in every worker before its first part; picklable, and small because it names files."""


Setup = Callable[[], object]
"""Called in a worker as it starts, so that no work waits for what it imports; picklable."""


def nothing() -> None:
    """A setup that does nothing."""


class WorkerDied(Exception):  # noqa: N818 - told apart by whoever started the worker; no user sees it
    """A worker ended without an answer; its message says how.

    Attributes:
        code: Exit code of a process, the negative number of the signal that ended it; 0 where there is no process.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Outcome:
    """What came of a part: `result`, or the `error` to raise where the part was given out."""

    result: Any = None
    error: Exception | None = None


class Worker(Protocol):
    """Does one part at a time, in the order in which it is given them."""

    def submit(self, initializer: bytes, part: bytes) -> None:
        """Hand over a part and what opens it, both pickled, even while another is being done; raises WorkerDied."""

    def outcome(self) -> Outcome:
        """What came of the first part whose outcome was not asked for yet, waited for; raises WorkerDied."""

    def stop(self) -> None:
        """End the worker at once, whatever it is doing."""


class WorkerHost(Protocol[W]):
    """Where workers are started."""

    @property
    def count(self) -> int:
        """How many work side by side."""

    def start(self) -> W:
        """A new worker; returns before it is ready."""

    def ready(self, workers: Sequence[W]) -> Sequence[W]:
        """Those of the busy `workers` that have an outcome or died; waits until there is one."""
