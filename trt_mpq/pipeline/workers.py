"""What workers are given to do beside evaluations: parts of rankings, and what takes a GPU.

A worker opens the run folder, to read from it, and asks for what its parts need. A run without workers does it all
itself, and ends the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from trt_mpq.artifacts.stage import Job, Stage
from trt_mpq.artifacts.store import Store
from trt_mpq.pipeline.device_run import run_remote_task
from trt_mpq.pipeline.remote import RemoteResult, RemoteTask, RunRemotely
from trt_mpq.pipeline.scoring import FP32
from trt_mpq.pipeline.sharing import POOL, threads_of_worker
from trt_mpq.sensitivity import SensitivityInputs
from trt_mpq.sensitivity.base import Distribute
from trt_mpq.settings import Settings
from trt_mpq.workers import WorkerPool, gpu_worker_pool


@dataclass(frozen=True)
class RunLocation:
    """Where a worker finds the run.

    Attributes:
        settings: Of the run, as one worker has them.
        folder: The run folder, absolute.
        open_inputs: Opens it for what sensitivity metrics are given; a function that other processes can import, which
            raises RunFolderError where that is not there yet.
    """

    settings: Settings
    folder: Path
    open_inputs: Callable[[Settings, Path], SensitivityInputs]

    def for_workers(self) -> RunLocation:
        """The same as one of its workers has it; settings and folder were those of the process that leads the run."""
        changes = {"threads": threads_of_worker(self.settings), "workers": 1, "ray": None}
        return replace(self, settings=self.settings.anchored().model_copy(update=changes), folder=self.folder.resolve())

    def rank(self, initializer: Callable[[SensitivityInputs], Callable[[Any], Any]]) -> Callable[[Any], Any]:
        """Ready for a metric's parts; `initializer` is the metric's, see `SensitivityInputs.spread`."""
        return initializer(self.open_inputs(self.settings, self.folder))

    def run(self) -> Callable[[RemoteTask], RemoteResult]:
        """Ready for tasks."""
        return partial(run_remote_task, self.settings, self.folder)


def distribution_of(location: RunLocation) -> Stage[Distribute | None]:
    """How sensitivity metrics have their parts done by the workers; None for "here"."""

    def make(job: Job) -> Distribute | None:
        pool = job[POOL]
        if pool is None:
            return None
        return lambda initializer: partial(pool.map, partial(location.rank, initializer))

    return Stage("distribution", make, uses=(POOL,))


@contextmanager
def workers_for(store: Store) -> Iterator[None]:
    """Workers for no longer than the block: others may wait for what they hold, and engines are timed alone.

    A run that has not even scored FP32 will want them, so that they start while it reads its model and data.
    """
    pool = store[POOL]
    if pool and not store.seconds(FP32):
        pool.start()
    try:
        yield
    finally:
        if pool:
            pool.close()


def remote_of(location: RunLocation, settings: Settings) -> RunRemotely | None:
    """How a GPU of the Ray cluster runs tasks for the run; None without a cluster."""
    if settings.ray is None:
        return None
    return partial(_run_remotely, location, gpu_worker_pool(settings.ray, settings.device))


def _run_remotely(location: RunLocation, pool: WorkerPool, task: RemoteTask) -> RemoteResult:
    try:
        returned: RemoteResult = next(pool.map(location.run, [task]))
    finally:
        pool.close()  # a search may be long, and others want the GPU
    return returned
