"""The workers of a run and what they are given to do: parts of rankings, plans of a search, what takes a GPU.

A worker opens the run folder, to read from it, and asks for what its parts need. A run without workers does it all
itself, and ends the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from trt_mpq.artifacts.stage import Stage
from trt_mpq.evaluate.cache import CachedScore
from trt_mpq.evaluate.plans import PlanEvaluator
from trt_mpq.pipeline.remote import RemoteResult, RemoteTask, RunRemotely
from trt_mpq.search import Problem, Search, merged
from trt_mpq.search.speculation import PlanQuery, SpeculativeEvaluator
from trt_mpq.sensitivity import SensitivityInputs
from trt_mpq.sensitivity.base import Distribute
from trt_mpq.settings import Settings
from trt_mpq.types import Judgement, PrecisionPlan, Score, SearchResult
from trt_mpq.workers import WorkerPool, gpu_worker_pool, worker_pool


@dataclass(frozen=True)
class OpenedRun:
    """What workers ask a run for; raises RunFolderError where it is not there yet.

    Attributes:
        sensitivity_inputs: What sensitivity metrics are given.
        plan_evaluator: What scores the plans of the search.
    """

    sensitivity_inputs: Callable[[], SensitivityInputs]
    plan_evaluator: Callable[[], PlanEvaluator]


@dataclass(frozen=True)
class RunLocation:
    """Where a worker finds the run.

    Attributes:
        settings: Of the run, as one worker has them.
        folder: The run folder, absolute.
        open_run: Opens it to read from; a function that other processes can import.
        run_remote_task: Does a task for it; another such function.
    """

    settings: Settings
    folder: Path
    open_run: Callable[[Settings, Path], OpenedRun]
    run_remote_task: Callable[[Settings, Path, RemoteTask], RemoteResult]

    def rank(self, initializer: Callable[[SensitivityInputs], Callable[[Any], Any]]) -> Callable[[Any], Any]:
        """Ready for a metric's parts; `initializer` is the metric's, see `SensitivityInputs.spread`."""
        return initializer(self.open_run(self.settings, self.folder).sensitivity_inputs())

    def measure(self) -> Callable[[PlanQuery], CachedScore]:
        """Ready for what a search asks."""
        return self.open_run(self.settings, self.folder).plan_evaluator().measured

    def run(self) -> Callable[[RemoteTask], RemoteResult]:
        """Ready for tasks."""
        return partial(self.run_remote_task, self.settings, self.folder)


class Workers:
    """Gives work to the workers that the settings ask for.

    Args:
        location: Where they find the run; its settings are those of the process that leads it, threads are shared out
            among the workers of one host, and Ray's have one each.
    """

    def __init__(self, location: RunLocation) -> None:
        settings, threads = location.settings, 1
        self._pool = worker_pool(settings.workers, settings.ray)
        self._gpu = None if settings.ray is None else gpu_worker_pool(settings.ray, settings.device)
        if settings.ray is None:
            threads = max(1, (settings.threads or os.cpu_count() or 1) // settings.workers)
        own = settings.anchored().model_copy(update={"threads": threads, "workers": 1, "ray": None})
        self._location = replace(location, settings=own, folder=location.folder.resolve())

    def stage(self) -> Stage[Workers]:
        """These workers, for stages that have work for them."""
        return Stage("workers", lambda job: self)

    def distribution(self) -> Distribute | None:
        """How sensitivity metrics have their parts done; None for "here"."""
        pool = self._pool
        return (
            None if pool is None else lambda initializer: partial(pool.map, partial(self._location.rank, initializer))
        )

    def remote(self) -> RunRemotely | None:
        """How a GPU of the Ray cluster runs tasks for the run; None without a cluster."""
        pool = self._gpu
        return None if pool is None else partial(self._run_remotely, pool)

    def _run_remotely(self, pool: WorkerPool, task: RemoteTask) -> RemoteResult:
        try:
            returned: RemoteResult = next(pool.map(self._location.run, [task]))
        finally:
            pool.close()  # a search may be long, and others want the GPU
        return returned

    def search(self, algorithm: Search, problems: Sequence[Problem], evaluator: PlanEvaluator) -> SearchResult:
        """What `algorithm` finds; workers evaluate the plans that it may ask for next before it does.

        Args:
            algorithm: The search.
            problems: What it solves; `evaluator` is theirs.
            evaluator: Scores the plans.

        Raises:
            TargetNotReachable: No problem has a feasible plan.
        """
        if self._pool is None:
            return merged(algorithm, problems)
        pooled = _PooledEvaluator(evaluator, self._pool, self._location)
        ahead = [replace(problem, evaluate=SpeculativeEvaluator(algorithm, problem, pooled)) for problem in problems]
        try:
            return merged(algorithm, ahead)
        finally:
            self._pool.close()


class _PooledEvaluator:
    """An evaluator whose workers measure several plans side by side; see `search.speculation.ParallelEvaluator`."""

    def __init__(self, evaluator: PlanEvaluator, pool: WorkerPool, location: RunLocation) -> None:
        self._evaluator, self._pool, self._location = evaluator, pool, location
        self.stops_early, self.side_by_side = evaluator.stops_early, pool.count

    def score(self, plan: PrecisionPlan) -> Score:
        return self._evaluator.score(plan)

    def judge(self, plan: PrecisionPlan) -> Judgement:
        return self._evaluator.judge(plan)

    def delivered(self, plan: PrecisionPlan) -> Score:
        return self._evaluator.delivered(plan)

    def seconds(self, plan: PrecisionPlan) -> float:
        return self._evaluator.seconds(plan)

    def knows(self, asked: PlanQuery) -> bool:
        return self._evaluator.knows(asked)

    def fill(self, asked: Sequence[PlanQuery]) -> None:
        for one, measured in zip(asked, self._pool.map(self._location.measure, asked), strict=True):
            self._evaluator.remember(one, measured)
