"""From the plan that a search found to what is delivered: refined for itself, written, verified and compared."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from trt_mpq.artifacts.stage import Job, Stage, content_digest, json_kind
from trt_mpq.artifacts.store import Store
from trt_mpq.emit import BiasCorrections, Own, Refinements, Roundings
from trt_mpq.emit.deliver import FLAVOUR_FILES, Delivery, deliver
from trt_mpq.emit.network import Network
from trt_mpq.engine.handover import PLAN_CORRECTIONS, Searched
from trt_mpq.errors import RuntimeFailure
from trt_mpq.evaluate.compare import compare_models
from trt_mpq.evaluate.plans import PlanEvaluator
from trt_mpq.pipeline.calibrated import Calibrated
from trt_mpq.pipeline.refinement import learned_roundings
from trt_mpq.pipeline.scoring import FP32, REQUIRED, SCORER
from trt_mpq.pipeline.search import Found
from trt_mpq.pipeline.sources import BATCH, CALIBRATION, EVALUATION, METRIC, PREPARED, RUNTIME
from trt_mpq.refine.bias_correction import correct_biases
from trt_mpq.refine.files import corrections_from_file, save_corrections
from trt_mpq.refine.for_plan import PlanRefiner, Refined, refine_for_plan, with_chosen
from trt_mpq.search.ladders import problem_of
from trt_mpq.types import Comparison, PrecisionPlan, Score, SearchResult

COMPARED_SAMPLES = 64
"""Samples that Polygraphy compares; the task score covers the whole evaluation set."""
_ROUNDING = 1e-6
"""Relative: less than one sample in a million, more than what another batch does to the last bits of a product."""


@dataclass(frozen=True)
class Delivered:
    """The stages that deliver a plan.

    Attributes:
        result: The outcome of the search, with the plan to deliver as the chosen one.
        refined: How it was refined for itself; None if that was not wanted.
        searched: What the search hands to the device half.
        files: The plan as ONNX files.
        scores: Scores of the files as they lie on disk, by flavour.
        comparison: Polygraphy's comparison of the typed model with FP32.
    """

    result: Stage[SearchResult]
    refined: Stage[Refined] | None
    searched: Stage[Searched]
    files: Stage[Delivery]
    scores: Stage[dict[str, Score]]
    comparison: Stage[Comparison]


def delivery(store: Store, calibrated: Calibrated, found: Found) -> Delivered:
    """The stages that deliver what was found, refined for exactly that plan if that is wanted.

    Where rounding is learned, it is learned anew under a plan that is not uniform.
    """
    refined = roundings = None
    if store.settings.refines_plan:
        plan, problems = store[found.result].chosen.plan, store[found.problems]
        if store.settings.adaround and not problem_of(plan, problems).is_uniform(plan):
            roundings = _roundings(calibrated, found)
        refined = _refined(calibrated, found, roundings)
    result = _result(found, refined)
    refinements = _refinements(calibrated, found, refined, roundings)
    searched = _searched(result, refinements)
    files = _files(calibrated.scored.network, searched, refinements)
    scores = _scores(calibrated, files, refinements, result)
    return Delivered(result, refined, searched, files, scores, _comparison(files, scores))


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
        refiner, evaluate = (
            max(scored, key=lambda way: way[1].score(result.chosen.plan).value) if scored[1:] else scored[0]
        )
        problem = problem_of(result.chosen.plan, job[found.problems])
        refined = refine_for_plan(problem, result.chosen, evaluate, progress=job.progress)
        own = refiner.own(refined.chosen.plan) if refined.own else Own({})
        save_corrections(own.corrections, job.path(PLAN_CORRECTIONS))
        return replace(refined, rounded=own.roundings is not None)

    needs = (
        found.result,
        found.problems,
        calibrated.scored.network,
        found.kept,
        calibrated.scored.cache,
        SCORER,
        CALIBRATION,
        RUNTIME,
    )
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
    calibrated: Calibrated, found: Found, refined: Stage[Refined] | None, roundings: Stage[Roundings] | None
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


def _searched(result: Stage[SearchResult], refinements: Stage[Refinements]) -> Stage[Searched]:
    return Stage(
        "searched",
        lambda job: Searched.of(job[result], job[refinements], job[METRIC].name, job[FP32], job[REQUIRED]),
        json_kind(Searched), needs=(result, refinements, METRIC, FP32, REQUIRED),
    )  # fmt: skip


def _files(of: Stage[Network], searched: Stage[Searched], refinements: Stage[Refinements]) -> Stage[Delivery]:
    def make(job: Job) -> Delivery:
        return deliver(job[of].emitter(job[refinements]), job[plan], job.path("plan.json").parent)

    plan = Stage(
        "delivered-plan", lambda job: job[searched].result.chosen.plan, needs=(searched,), digest=lambda p: p.digest
    )
    return Stage(
        "delivery", make, json_kind(Delivery), needs=(of, plan, refinements), files=FLAVOUR_FILES,
        title="Writing the plan",
    )  # fmt: skip


def _scores(
    calibrated: Calibrated, files: Stage[Delivery], refinements: Stage[Refinements], result: Stage[SearchResult]
) -> Stage[dict[str, Score]]:
    """Scores of reference.onnx and typed.onnx; raises RuntimeFailure if they are not what the search measured."""
    of, cache = calibrated.scored.network, calibrated.scored.cache

    def measure(job: Job) -> dict[str, Score]:
        typed = PlanEvaluator.of(
            job[calibrated.scored.network], job[refinements], job[SCORER], job[calibrated.scored.cache]
        )
        reference = job[SCORER].score(job.path("reference.onnx"))
        job.progress(1, 2)
        scores = {"reference": reference, "typed": typed.on_disk(job.path("typed.onnx"))}
        job.progress(2, 2)
        return scores

    measured = Stage(
        "verification", measure, json_kind(dict[str, Score]),
        needs=(files, of, refinements, SCORER, cache), title="Verifying the files",
    )  # fmt: skip

    def verify(job: Job) -> dict[str, Score]:
        reference, searched = job[measured]["reference"].value, job[result].chosen.score.value
        if not math.isclose(reference, searched, rel_tol=_ROUNDING):
            raise RuntimeFailure(
                f"reference.onnx scores {reference:.6g} and the search measured {searched:.6g} for the same plan, "
                f"perhaps on another machine: delete {job.path('reference.onnx').parent} and run again"
            )
        return job[measured]

    return Stage("verified", verify, needs=(measured, result), digest=content_digest(dict[str, Score]))


def _comparison(files: Stage[Delivery], scores: Stage[dict[str, Score]]) -> Stage[Comparison]:
    def make(job: Job) -> Comparison:
        original, typed = job.path(job[PREPARED].path), job.path("typed.onnx")
        return compare_models(original, typed, job[EVALUATION], job[BATCH], COMPARED_SAMPLES)

    return Stage(
        "comparison", make, json_kind(Comparison), needs=(files, scores, PREPARED, EVALUATION, BATCH),
        title="Comparing with Polygraphy",
    )  # fmt: skip
