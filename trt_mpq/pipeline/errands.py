"""What a machine with a GPU does for a run that one without leads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Errand(Enum):
    """What a machine with a GPU does for a run that one without leads."""

    PLATFORM = "see what the GPU is"
    MEASURE = "measure what every group costs"
    SHIP = "build, time and verify the engine"


@dataclass(frozen=True)
class Returned:
    """What came of an errand: a value, and what the user should know, a sentence each."""

    value: Any
    notes: tuple[str, ...] = ()


Send = Callable[[Errand], Returned]
"""Has an errand run, waited for; raises MissingDependencyError or RuntimeFailure where that machine cannot."""
