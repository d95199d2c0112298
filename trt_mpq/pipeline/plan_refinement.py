"""Refinement for exactly the plan that a search found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from trt_mpq.artifacts.stage import Job, Stage, json_kind
from trt_mpq.artifacts.store import Store
from trt_mpq.emit import BiasCorrections, Own, Refinements, Roundings
from trt_mpq.pipeline.calibration import CalibrationStages
from trt_mpq.pipeline.correcting import CORRECTING_NEEDS, CORRECTING_USES, biases_corrected
from trt_mpq.pipeline.refinement import learned_roundings
from trt_mpq.pipeline.scored import ScoredNetwork
from trt_mpq.pipeline.scoring import STOP
from trt_mpq.pipeline.search import SearchStages
from trt_mpq.refine.files import PLAN_CORRECTIONS, corrections_from_file, save_corrections
from trt_mpq.refine.for_plan import PlanRefiner, Refined, refine_for_plan, with_chosen
from trt_mpq.refine.recovery import record_of_plan
from trt_mpq.search import problem_of
from trt_mpq.types import PrecisionPlan, RefinementRecord, SearchResult


@dataclass(frozen=True)
class RefinedPlanStages:
    """The stages of the plan that was found, refined for itself.

    Attributes:
        result: The outcome of the search, with the plan to deliver as the chosen one.
        refinements: Those that all plans share, and those of its own that were worth it.
        outcome: What refining it came to; None if that was not wanted.
    """

    result: Stage[SearchResult]
    refinements: Stage[Refinements]
    outcome: Stage[Refined] | None

    def records(self, store: Store, search: SearchStages) -> Iterator[RefinementRecord]:
        """What refining it came to, if that was wanted."""
        if self.outcome:
            yield record_of_plan(store[search.result].chosen, store[self.outcome])


def choose_plan_refinement(store: Store, calibration: CalibrationStages, search: SearchStages) -> RefinedPlanStages:
    """Refine for exactly the plan that was found, if that is wanted, and unless it is the fastest of all.

    Where rounding is learned, it is learned anew under a plan that is not uniform.
    """
    refined = roundings = None
    if store.settings.refines_plan and store[search.result].unranked is None:
        plan, problems = store[search.result].chosen.plan, store[search.problems]
        if store.settings.adaround and not problem_of(plan, problems).is_uniform(plan):
            roundings = _roundings(calibration, search)
        refined = _refined(calibration.scored, search, roundings)
    return RefinedPlanStages(_result(search, refined), _refinements(search, refined, roundings), refined)


def _roundings(calibration: CalibrationStages, search: SearchStages) -> Stage[Roundings]:
    """How weights are rounded as is learned under exactly the plan that was found."""
    plan: Stage[PrecisionPlan] = Stage(
        "found-plan", lambda job: job[search.result].chosen.plan, needs=(search.result,), digest=lambda p: p.digest
    )
    return learned_roundings("plan", calibration.scored.network, plan, "the plan's")


def _refined(scored: ScoredNetwork, search: SearchStages, roundings: Stage[Roundings] | None) -> Stage[Refined]:
    """What refinement for exactly the plan that was found came to.

    Args:
        scored: The network.
        search: The plan.
        roundings: Learned under it, to be used where they help; None where there are none.
    """

    def make(job: Job) -> Refined:
        result, shared = job[search.result], job[search.shared].refinements

        def correct(refinements: Refinements, plan: PrecisionPlan) -> BiasCorrections:
            return biases_corrected(job, job[scored.network], plan, refinements)

        ways = [PlanRefiner(correct, shared, None)]
        if roundings is not None:
            ways.append(PlanRefiner(correct, shared, {**shared.roundings, **job[roundings]}))
        tried = [(way, scored.evaluator_by(job, way, job[STOP])) for way in ways]
        # A uniform plan, which has one way only, was scored with its own refinements already.
        best = tried[0] if len(ways) == 1 else max(tried, key=lambda way: way[1].score(result.chosen.plan).value)
        refiner, evaluate = best
        problem = problem_of(result.chosen.plan, job[search.problems])
        refined = refine_for_plan(problem, result.chosen, evaluate, progress=job.progress)
        own = refiner.own(refined.chosen.plan) if refined.own else Own({})
        save_corrections(own.corrections, job.path(PLAN_CORRECTIONS))
        return replace(refined, rounded=own.roundings is not None)

    needs: tuple[Stage[Any], ...] = (
        search.result, search.problems, search.shared, *scored.needs(), STOP, *CORRECTING_NEEDS,
    )  # fmt: skip
    return Stage(
        "refined", make, json_kind(Refined), needs=needs if roundings is None else (*needs, roundings),
        files=(PLAN_CORRECTIONS,), uses=CORRECTING_USES, title="Refining for the chosen plan",
    )  # fmt: skip


def _result(search: SearchStages, refined: Stage[Refined] | None) -> Stage[SearchResult]:
    if refined is None:
        return search.result
    return Stage(
        "result", lambda job: with_chosen(job[search.result], job[refined].chosen), needs=(search.result, refined)
    )


def _refinements(
    search: SearchStages, refined: Stage[Refined] | None, roundings: Stage[Roundings] | None
) -> Stage[Refinements]:
    """What is delivered: the refinements that all plans share, and those of its own that were worth it."""

    def make(job: Job) -> Refinements:
        shared, own = job[search.shared].refinements, job[refined] if refined else None
        if own is None or not own.own:
            return shared
        rounded = {**shared.roundings, **job[roundings]} if roundings and own.rounded else None
        corrections = corrections_from_file(job.path(PLAN_CORRECTIONS))
        return replace(shared, own={own.chosen.plan.digest: Own(corrections, rounded)})

    optional = tuple(stage for stage in (refined, roundings) if stage is not None)
    return Stage(
        "delivered-refinements", make, needs=(search.shared, *optional), digest=lambda refinements: refinements.digest
    )
