"""The plan that was found, as NVIDIA's compiler takes it: what it refuses is back in high precision."""

from __future__ import annotations

from dataclasses import dataclass, replace

from trt_mpq.artifacts.stage import Job, Stage, json_kind
from trt_mpq.artifacts.store import Store
from trt_mpq.evaluate.plans import PlanEvaluator
from trt_mpq.pipeline.calibration import CalibrationStages
from trt_mpq.pipeline.compiler import compiled, has_compiler
from trt_mpq.pipeline.plan_refinement import RefinedPlanStages, choose_plan_refinement
from trt_mpq.pipeline.scoring import SCORER
from trt_mpq.pipeline.search import SearchStages
from trt_mpq.refine.for_plan import with_chosen
from trt_mpq.search import problem_of
from trt_mpq.types import PrecisionPlan, SearchResult
from trt_mpq.types.compilation import Compilation


@dataclass(frozen=True)
class AcceptedPlanStages(RefinedPlanStages):
    """The stages of the plan as it is delivered.

    Attributes:
        compilation: What NVIDIA's compiler makes of it; None without it.
    """

    compilation: Stage[Compilation] | None


def choose_accepted_plan(store: Store, calibration: CalibrationStages, search: SearchStages) -> AcceptedPlanStages:
    """The plan that was found, refined for itself if that is wanted, without what the compiler refuses.

    Without the compiler, where it is not wanted, and for a plan that is for study only it is the plan as it was found.
    """
    plan = choose_plan_refinement(store, calibration, search)
    if not has_compiler(store) or not store[plan.result].chosen.plan.deployable:
        return AcceptedPlanStages(plan.result, plan.refinements, plan.outcome, None)
    compilation = _compilation(calibration, plan)
    if store[compilation].raised:
        plan = _without_refused(plan, compilation, calibration, search)
    return AcceptedPlanStages(plan.result, plan.refinements, plan.outcome, compilation)


def _compilation(calibration: CalibrationStages, plan: RefinedPlanStages) -> Stage[Compilation]:
    network, refinements, result = calibration.scored.network, plan.refinements, plan.result
    emitter = Stage(
        "compiled-emitter", lambda job: job[network].emitter(job[refinements]), needs=(network, refinements)
    )
    found: Stage[PrecisionPlan] = Stage(
        "compiled-plan", lambda job: job[result].chosen.plan, needs=(result,), digest=lambda one: one.digest
    )
    return compiled("compiled", calibration.described, emitter, found, repair=True)


def _without_refused(
    plan: RefinedPlanStages, compilation: Stage[Compilation], calibration: CalibrationStages, search: SearchStages
) -> RefinedPlanStages:
    """`plan` as the compiler takes it: scored anew, with the refinements that all plans share."""
    network, cache = calibration.scored.network, calibration.scored.cache

    def make(job: Job) -> SearchResult:
        result, high = job[plan.result], job[network].grouping.uniform(job[network].grouping.top)
        repaired = result.chosen.plan.replace({group: high[group] for group in job[compilation].raised})
        evaluate = PlanEvaluator.of(job[network], job[plan.refinements], job[SCORER], job[cache])
        problem = replace(problem_of(repaired, job[search.problems]), evaluate=evaluate)
        note = "what the compiler refuses is back in high precision"
        evaluation = problem.evaluation(repaired, problem.measured, note)
        return with_chosen(result, problem.confirmed(evaluation) if evaluation.feasible else evaluation)

    accepted = Stage(
        "accepted", make, json_kind(SearchResult),
        needs=(plan.result, compilation, network, plan.refinements, SCORER, cache, search.problems),
        title="Scoring what the compiler takes",
    )  # fmt: skip
    return replace(plan, result=accepted)
