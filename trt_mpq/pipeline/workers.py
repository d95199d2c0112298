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
from trt_mpq.pipeline.errands import Errand, Returned, Send
from trt_mpq.search import Problem, Search, merged
from trt_mpq.search.speculation import Asked, Foreseeing
from trt_mpq.sensitivity import SensitivityInputs
from trt_mpq.sensitivity.base import Elsewhere
from trt_mpq.settings import Settings
from trt_mpq.types import Judgement, PrecisionPlan, Score, SearchResult
from trt_mpq.workers import Crew, crew_for, gpu_crew


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
class Site:
    """Where a worker finds the run.

    Attributes:
        settings: Of the run, as one worker has them.
        folder: The run folder, absolute.
        open_run: Opens it to read from; a function that other processes can import.
        run_errand: Does an errand for it; another such function.
    """

    settings: Settings
    folder: Path
    open_run: Callable[[Settings, Path], OpenedRun]
    run_errand: Callable[[Settings, Path, Errand], Returned]

    def rank(self, opening: Callable[[SensitivityInputs], Callable[[Any], Any]]) -> Callable[[Any], Any]:
        """Ready for a metric's parts; `opening` is the metric's, see `SensitivityInputs.spread`."""
        return opening(self.open_run(self.settings, self.folder).sensitivity_inputs())

    def measure(self) -> Callable[[Asked], CachedScore]:
        """Ready for what a search asks."""
        return self.open_run(self.settings, self.folder).plan_evaluator().measured

    def errands(self) -> Callable[[Errand], Returned]:
        """Ready for errands."""
        return partial(self.run_errand, self.settings, self.folder)


class Team:
    """Gives work to the workers that the settings ask for.

    Args:
        site: Where they find the run; its settings are those of the process that leads it, threads are shared out
            among the workers of one host, and Ray's have one each.
    """

    def __init__(self, site: Site) -> None:
        settings, threads = site.settings, 1
        self._crew = crew_for(settings.workers, settings.ray)
        self._gpu = None if settings.ray is None else gpu_crew(settings.ray, settings.device)
        if settings.ray is None:
            threads = max(1, (settings.threads or os.cpu_count() or 1) // settings.workers)
        own = settings.anchored().model_copy(update={"threads": threads, "workers": 1, "ray": None})
        self._site = replace(site, settings=own, folder=site.folder.resolve())

    @property
    def stage(self) -> Stage[Team]:
        """The team, for stages that have work for it."""
        return Stage("team", lambda job: self)

    @property
    def elsewhere(self) -> Elsewhere | None:
        """How sensitivity metrics have their parts done; None for "here"."""
        crew = self._crew
        return None if crew is None else lambda opening: partial(crew.map, partial(self._site.rank, opening))

    @property
    def send(self) -> Send | None:
        """How a GPU of the Ray cluster runs errands for the run; None without a cluster."""
        crew = self._gpu
        return None if crew is None else partial(self._sent, crew)

    def _sent(self, crew: Crew, errand: Errand) -> Returned:
        try:
            returned: Returned = next(crew.map(self._site.errands, [errand]))
        finally:
            crew.close()  # a search may be long, and others want the GPU
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
        if self._crew is None:
            return merged(algorithm, problems)
        crowd = _Crowd(evaluator, self._crew, self._site)
        ahead = [replace(problem, evaluate=Foreseeing(algorithm, problem, crowd)) for problem in problems]
        try:
            return merged(algorithm, ahead)
        finally:
            self._crew.close()


class _Crowd:
    """An evaluator whose workers measure several plans side by side; see `search.speculation.Measured`."""

    def __init__(self, evaluator: PlanEvaluator, crew: Crew, site: Site) -> None:
        self._evaluator, self._crew, self._site = evaluator, crew, site
        self.stops_early, self.side_by_side = evaluator.stops_early, crew.count

    def score(self, plan: PrecisionPlan) -> Score:
        return self._evaluator.score(plan)

    def judge(self, plan: PrecisionPlan) -> Judgement:
        return self._evaluator.judge(plan)

    def delivered(self, plan: PrecisionPlan) -> Score:
        return self._evaluator.delivered(plan)

    def seconds(self, plan: PrecisionPlan) -> float:
        return self._evaluator.seconds(plan)

    def knows(self, asked: Asked) -> bool:
        return self._evaluator.knows(asked)

    def fill(self, asked: Sequence[Asked]) -> None:
        for one, measured in zip(asked, self._crew.map(self._site.measure, asked), strict=True):
            self._evaluator.remember(one, measured)
