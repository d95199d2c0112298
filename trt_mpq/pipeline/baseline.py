"""What is wrong with the network in high precision alone, asked where that misses the target."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from trt_mpq.artifacts.stage import Job, Stage
from trt_mpq.calibrate.soundness import first_not_finite
from trt_mpq.emit import Network
from trt_mpq.errors import TargetNotReachable
from trt_mpq.pipeline.sources import BATCH, EVALUATION_ROWS, RUNTIME


def baseline_fault_of(network: Stage[Network]) -> Stage[str]:
    """A sentence that says why the network is worse in high precision than in FP32."""

    def make(job: Job) -> str:
        top = job[network].grouping.top.name
        place = first_not_finite(job[network], job[EVALUATION_ROWS], job[RUNTIME], job[BATCH])
        if place is None:
            return f"{top} alone misses the target too: all its values are finite, so rounding is what it loses by"
        return f"{top} alone misses the target because {place} becomes NaN or infinite"

    return Stage("baseline-fault", make, needs=(network, EVALUATION_ROWS, RUNTIME), uses=(BATCH,))


NO_FAULT = Stage("baseline-fault", lambda job: "")
"""Where a search is not for accuracy."""


@contextmanager
def explained(job: Job, fault: Stage[str]) -> Iterator[None]:
    """Let a search that finds no plan say what is wrong with high precision alone; the job may use `fault`."""
    try:
        yield
    except TargetNotReachable as error:
        raise TargetNotReachable("; ".join(filter(None, [str(error), job[fault]]))) from error
