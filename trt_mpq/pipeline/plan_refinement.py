"""Refinement for exactly the plan that a search found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from trt_mpq.artifacts.stage import Job, Stage, json_kind
from trt_mpq.artifacts.store import Store
from trt_mpq.emit import BiasCorrections, Own, Refinements, Roundings
from trt_mpq.evaluate.plans import PlanEvaluator
from trt_mpq.pipeline.calibrated import Calibrated
from trt_mpq.pipeline.refinement import learned_roundings
from trt_mpq.pipeline.scoring import SCORER
from trt_mpq.pipeline.search import Found
from trt_mpq.pipeline.sources import CALIBRATION, RUNTIME
from trt_mpq.refine.bias_correction import correct_biases
from trt_mpq.refine.files import PLAN_CORRECTIONS, corrections_from_file, save_corrections
from trt_mpq.refine.for_plan import PlanRefiner, Refined, refine_for_plan, with_chosen
from trt_mpq.refine.recovery import record_of_plan
from trt_mpq.search import problem_of
from trt_mpq.types import PrecisionPlan, RefinementRecord, SearchResult


@dataclass(frozen=True)
class RefinedPlan:
    """The stages of the plan that was found, refined for itself.

    Attributes:
        result: The outcome of the search, with the plan to deliver as the chosen one.
        refinements: Those that all plans share, and those of its own that were worth it.
        outcome: What refining it came to; None if that was not wanted.
    """

    result: Stage[SearchResult]
    refinements: Stage[Refinements]
    outcome: Stage[Refined] | None

    def records(self, store: Store, found: Found) -> Iterator[RefinementRecord]:
        """What refining it came to, if that was wanted."""
        if self.outcome:
            yield record_of_plan(store[found.result].chosen, store[self.outcome])


def refined_for_plan(store: Store, calibrated: Calibrated, found: Found) -> RefinedPlan:
    """Refine for exactly the plan that was found, if that is wanted.

    Where rounding is learned, it is learned anew under a plan that is not uniform.
    """
    refined = roundings = None
    if store.settings.refines_plan:
        plan, problems = store[found.result].chosen.plan, store[found.problems]
        if store.settings.adaround and not problem_of(plan, problems).is_uniform(plan):
            roundings = _roundings(calibrated, found)
        refined = _refined(calibrated, found, roundings)
    return RefinedPlan(_result(found, refined), _refinements(found, refined, roundings), refined)


def _roundings(calibrated: Calibrated, found: Found) -> Stage[Roundings]:
    """How weights are rounded as is learned under exactly the plan that was found."""
    plan: Stage[PrecisionPlan] = Stage(
        "found-plan", lambda job: job[found.result].chosen.plan, needs=(found.result,), digest=lambda p: p.digest
    )
    return learned_roundings("plan", calibrated.scored.network, plan, "the plan's")


def _refined(calibrated: Calibrated, found: Found, roundings: Stage[Roundings] | None) -> Stage[Refined]:
    """What refinement for exactly the plan that was found came to.

    Args:
        calibrated: The network.
        found: The plan.
        roundings: Learned under it, to be used where they help; None where there are none.
    """

    def make(job: Job) -> Refined:
        result, of, kept = job[found.result], job[calibrated.scored.network], job[found.kept].refinements

        def correct(refinements: Refinements, plan: PrecisionPlan) -> BiasCorrections:
            return correct_biases(of, plan, refinements, job[CALIBRATION], job[RUNTIME])

        ways = [PlanRefiner(correct, kept, None)]
        if roundings is not None:
            ways.append(PlanRefiner(correct, kept, {**kept.roundings, **job[roundings]}))
        scored = [(way, _evaluator(job, calibrated, way)) for way in ways]
        # A uniform plan, which has one way only, was scored with its own refinements already.
        best = scored[0] if len(ways) == 1 else max(scored, key=lambda way: way[1].score(result.chosen.plan).value)
        refiner, evaluate = best
        problem = problem_of(result.chosen.plan, job[found.problems])
        refined = refine_for_plan(problem, result.chosen, evaluate, progress=job.progress)
        own = refiner.own(refined.chosen.plan) if refined.own else Own({})
        save_corrections(own.corrections, job.path(PLAN_CORRECTIONS))
        return replace(refined, rounded=own.roundings is not None)

    scored, data = calibrated.scored, (SCORER, CALIBRATION, RUNTIME)
    needs = (found.result, found.problems, scored.network, found.kept, scored.cache, *data)
    return Stage(
        "refined", make, json_kind(Refined), needs=needs if roundings is None else (*needs, roundings),
        files=(PLAN_CORRECTIONS,), title="Refining for the chosen plan",
    )  # fmt: skip


def _evaluator(job: Job, calibrated: Calibrated, refiner: PlanRefiner) -> PlanEvaluator:
    """Scores plans that are refined for themselves."""
    of = job[calibrated.scored.network]
    return PlanEvaluator(
        lambda plan: of.emitter(refiner.refinements(plan)),
        lambda plan: (*of.marks(plan), *refiner.marks(plan)),
        job[SCORER], job[calibrated.scored.cache],
    )  # fmt: skip


def _result(found: Found, refined: Stage[Refined] | None) -> Stage[SearchResult]:
    if refined is None:
        return found.result
    return Stage(
        "result", lambda job: with_chosen(job[found.result], job[refined].chosen), needs=(found.result, refined)
    )


def _refinements(
    found: Found, refined: Stage[Refined] | None, roundings: Stage[Roundings] | None
) -> Stage[Refinements]:
    """What is delivered: the refinements that all plans share, and those of its own that were worth it."""

    def make(job: Job) -> Refinements:
        kept, own = job[found.kept].refinements, job[refined] if refined else None
        if own is None or not own.own:
            return kept
        rounded = {**kept.roundings, **job[roundings]} if roundings and own.rounded else None
        corrections = corrections_from_file(job.path(PLAN_CORRECTIONS))
        return replace(kept, own={own.chosen.plan.digest: Own(corrections, rounded)})

    optional = tuple(stage for stage in (refined, roundings) if stage is not None)
    return Stage("delivered-refinements", make, needs=(found.kept, *optional), digest=lambda found: found.digest)
