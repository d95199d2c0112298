"""What a machine with a GPU does for a run that one without leads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any


class RemoteTask(Enum):
    """What a machine with a GPU does for a run that one without leads."""

    PLATFORM = "see what the GPU is"
    MEASURE = "measure what every group costs"
    SHIP = "build, time and verify the engine"


@dataclass(frozen=True)
class RemoteResult:
    """What came of a task: a value, and what the user should know, a sentence each."""

    value: Any
    notes: tuple[str, ...] = ()


RunRemotely = Callable[[RemoteTask], RemoteResult]
"""Has a task done there, waited for; raises MissingDependencyError or RuntimeFailure where that machine cannot."""
