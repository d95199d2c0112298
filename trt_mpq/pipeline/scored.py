"""A network whose plans are scored, and the plan that a format is judged by before anything is searched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from trt_mpq.artifacts.stage import Job, Stage
from trt_mpq.emit import Network, Refinements
from trt_mpq.evaluate.cache import ScoreCache
from trt_mpq.evaluate.plans import EarlyStop, PlanEvaluator
from trt_mpq.pipeline.fastest import fastest_of
from trt_mpq.pipeline.model_states import State
from trt_mpq.pipeline.networks import restricted_groups_of
from trt_mpq.pipeline.scoring import SCORER, score_cache_of
from trt_mpq.refine.for_plan import PlanRefiner
from trt_mpq.types import Grouping, Precision, PrecisionPlan


@dataclass(frozen=True)
class ScoredNetwork:
    """A network, its groups, and where its scores are remembered."""

    network: Stage[Network]
    groups: Stage[Grouping]
    cache: Stage[ScoreCache]

    @classmethod
    def of(cls, network: Stage[Network], state: State) -> ScoredNetwork:
        """A network that is made of a state of the model."""
        return cls(network, restricted_groups_of(state), score_cache_of(state))

    def judged(self, precision: Precision) -> Stage[PrecisionPlan]:
        """The plan that `precision` is judged by."""
        return fastest_of(self.groups, precision)

    def needs(self, formats: Iterable[Precision] = ()) -> tuple[Stage[Any], ...]:
        """What a job asks for that scores the plans of these formats, or others."""
        return (self.network, self.cache, SCORER, *map(self.judged, formats))

    def evaluator(self, job: Job, refinements: Refinements, stop: EarlyStop | None = None) -> PlanEvaluator:
        """Scores plans that share `refinements`."""
        return PlanEvaluator.of(job[self.network], refinements, job[SCORER], job[self.cache], stop)

    def evaluator_by(self, job: Job, refiner: PlanRefiner, stop: EarlyStop | None) -> PlanEvaluator:
        """Scores plans that `refiner` refines each for itself."""
        network: Network = job[self.network]
        return PlanEvaluator(
            lambda plan: network.emitter(refiner.refinements(plan)),
            lambda plan: (*network.marks(plan), *refiner.marks(plan)),
            job[SCORER], job[self.cache], stop,
        )  # fmt: skip

    def title(self, job: Job, precision: Precision, text: str) -> str:
        """What whoever watches is told while the plan runs that `precision` is judged by, in the state of `text`."""
        uniform = job[self.judged(precision)] == job[self.network].grouping.uniform(precision)
        return f"Scoring {f'uniform {precision}' if uniform else f'the fastest {precision} plan'} {text}"

    def score(self, job: Job, precision: Precision, text: str, refinements: Refinements) -> float:
        """Score of the plan that `precision` is judged by, refined; `text` tells whoever watches in which state."""
        title, evaluator = self.title(job, precision, text), self.evaluator(job, refinements)
        return evaluator.score(job[self.judged(precision)], lambda: job.observer.stage(title)).value

    def keeps(self, job: Job, precision: Precision, refinements: Refinements, required: float | None) -> bool:
        """Whether that plan and its typed file score what is `required`; not where nothing is."""
        if required is None:
            return False
        return self.evaluator(job, refinements).keeps(job[self.judged(precision)], required)
