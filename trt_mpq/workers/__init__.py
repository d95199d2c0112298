"""Workers: processes on this host or actors of a Ray cluster that do the parts of a stage side by side.

They only read: the run folder has one writer, the process that leads the run.
"""

from __future__ import annotations

from trt_mpq.workers.base import Opening, Work
from trt_mpq.workers.crew import Crew
from trt_mpq.workers.processes import Processes
from trt_mpq.workers.ray import RayCluster, RayGpu

__all__ = ["Crew", "Opening", "Work", "crew_for", "gpu_crew"]


def crew_for(workers: int, ray: str | None) -> Crew | None:
    """The crew of so many workers, on the Ray cluster at `ray` if that is given; None for one process, this one.

    On Ray, 1 stands for as many as the cluster has CPUs. Nothing is started before the crew gets work.
    """
    if ray is not None:
        return Crew(RayCluster(ray, workers))
    return Crew(Processes(workers)) if workers > 1 else None


def gpu_crew(ray: str, device: str) -> Crew:
    """The crew of one worker with a GPU of the Ray cluster at `ray`, of the kind `device` where it has several."""
    return Crew(RayGpu(ray, device))
