"""Errands: what a machine with a GPU does for a run that a machine without one leads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from trt_mpq.latency.device_table import DeviceTable
from trt_mpq.types.engine import Deployment, Platform


class Errand(Enum):
    """What can be asked for; each stands for what comes back."""

    PLATFORM = "see what the GPU is"
    MEASURE = "measure what every group costs"
    SHIP = "build, time and verify the engine"


@dataclass(frozen=True)
class Returned:
    """What came of an errand.

    Attributes:
        value: A platform, a device table, or a deployment.
        notes: What the user should know, a sentence each.
    """

    value: Platform | DeviceTable | Deployment
    notes: tuple[str, ...] = ()


Send = Callable[[Errand], Returned]
"""Has an errand run, waited for; raises MissingDependencyError or RuntimeFailure where that machine cannot."""
