"""Workers: processes on this host or actors of a Ray cluster that do the parts of a stage side by side.

They only read: the run folder has one writer, the process that leads the run. What starts them is imported when they
are asked for: the command line answers --help without it.
"""

from __future__ import annotations

from trt_mpq.workers.base import Initializer, Setup, Work, nothing
from trt_mpq.workers.pool import WorkerPool

__all__ = ["Initializer", "Setup", "Work", "WorkerPool", "gpu_worker_pool", "worker_pool"]


def worker_pool(workers: int, ray: str | None, setup: Setup = nothing) -> WorkerPool | None:
    """The pool of so many workers, on the Ray cluster at `ray` if that is given; None for one process, this one.

    On Ray, 1 stands for as many as the cluster has CPUs. Each calls `setup` as it starts. None is started before the
    pool is told to, or gets work.
    """
    if ray is not None:
        from trt_mpq.workers.ray import RayCluster

        return WorkerPool(RayCluster(ray, workers, setup))
    if workers == 1:
        return None
    from trt_mpq.workers.processes import Processes

    return WorkerPool(Processes(workers, setup))


def gpu_worker_pool(ray: str, device: str) -> WorkerPool:
    """The pool of one worker with a GPU of the Ray cluster at `ray`, of the kind `device` where it has several."""
    from trt_mpq.workers.ray import RayGpu

    return WorkerPool(RayGpu(ray, device))
