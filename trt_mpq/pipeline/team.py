"""The workers of one run and what they are given to do. A run without workers does it all itself, and ends the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from trt_mpq.evaluate.scorer import EarlyStop, PlanEvaluator
from trt_mpq.pipeline.devicerun import Errands
from trt_mpq.pipeline.errands import Errand, Returned, Send
from trt_mpq.pipeline.openings import OpenRun, PlanParts, RankingParts, site_of
from trt_mpq.search import Problem, Search
from trt_mpq.search.ladders import merged
from trt_mpq.search.speculation import Asked, foreseeing
from trt_mpq.sensitivity.base import Elsewhere
from trt_mpq.settings import Settings
from trt_mpq.types import SearchResult
from trt_mpq.workers import Crew, crew_for, gpu_crew


class Team:
    """Gives work to the workers that the settings ask for.

    Args:
        settings: Of the run.
        folder: The run folder.
        open_run: How workers open it.
    """

    def __init__(self, settings: Settings, folder: Path, open_run: OpenRun) -> None:
        self._site = site_of(settings, folder, open_run)
        self._crew = crew_for(settings.workers, settings.ray)
        self._gpu = None if settings.ray is None else gpu_crew(settings.ray, settings.device)

    @property
    def elsewhere(self) -> Elsewhere | None:
        """How sensitivity metrics have their parts done; None for "here"."""
        crew = self._crew
        return None if crew is None else lambda opening: partial(crew.map, RankingParts(self._site, opening))

    @property
    def send(self) -> Send | None:
        """How a GPU of the Ray cluster runs errands for the run; None without a cluster."""
        crew = self._gpu
        return None if crew is None else partial(_sent, crew, Errands(self._site.settings, self._site.folder))

    def search(
        self, algorithm: Search, problems: Sequence[Problem], evaluator: PlanEvaluator, stop: EarlyStop | None
    ) -> SearchResult:
        """What `algorithm` finds; workers evaluate the plans that it may ask for next before it does.

        Args:
            algorithm: The search.
            problems: What it solves; they take scores from `evaluator` and judgements by `stop`.
            evaluator: Scores the plans.
            stop: Ends evaluations early; None if they do not.

        Raises:
            TargetNotReachable: No problem has a feasible plan.
        """
        if self._crew is None:
            return merged(algorithm, problems)
        memory = _Evaluations(self._crew, PlanParts(self._site), evaluator, stop)
        try:
            return merged(algorithm, [foreseeing(algorithm, problem, memory) for problem in problems])
        finally:
            self._crew.close()


def _sent(crew: Crew, errands: Errands, errand: Errand) -> Returned:
    try:
        returned: Returned = next(crew.map(errands, [errand]))
    finally:
        crew.close()  # a search may be long, and others want the GPU
    return returned


@dataclass(frozen=True)
class _Evaluations:
    """What an evaluator knows of plans, and what the workers add to it; a `foresight.Memory`."""

    crew: Crew
    opening: PlanParts
    evaluator: PlanEvaluator
    stop: EarlyStop | None

    @property
    def count(self) -> int:
        return self.crew.count

    def knows(self, asked: Asked) -> bool:
        return self.evaluator.known(asked.plan, self.stop if asked.judged else None) is not None

    def fill(self, asked: Sequence[Asked]) -> None:
        for one, measured in zip(asked, self.crew.map(self.opening, asked), strict=True):
            self.evaluator.remember(one.plan, measured, self.stop if one.judged else None)
