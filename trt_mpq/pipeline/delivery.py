"""From the plan that a search found to what is delivered: refined for itself, written and verified."""

from __future__ import annotations

from dataclasses import dataclass

from trt_mpq.artifacts.stage import Job, Stage, json_kind
from trt_mpq.artifacts.store import Store
from trt_mpq.emit import Emitter, Network, Refinements
from trt_mpq.emit.deliver import FLAVOUR_FILES, Delivery, deliver, holds_reference
from trt_mpq.engine.handover import SEARCHED, Searched
from trt_mpq.evaluate.plans import PlanEvaluator
from trt_mpq.pipeline.calibration import CalibrationStages
from trt_mpq.pipeline.compilation import AcceptedPlanStages, choose_accepted_plan
from trt_mpq.pipeline.engine_scoring import identity_of
from trt_mpq.pipeline.judging import JudgingStages, judging_of, verified
from trt_mpq.pipeline.scoring import FP32, PLAN_SAMPLES, REQUIRED, SCORER, keep_samples, write_samples
from trt_mpq.pipeline.search import SearchStages
from trt_mpq.pipeline.sources import EVALUATION
from trt_mpq.pipeline.task import METRIC, OUTPUTS
from trt_mpq.types import DeliveredScores, PrecisionPlan, Score


@dataclass(frozen=True)
class DeliveryStages:
    """The stages that deliver a plan.

    Attributes:
        plan: The plan, refined for itself.
        searched: What the search hands to the device half.
        files: The plan as ONNX files.
        scores: Scores of the files as they lie on disk, by flavour.
        judging: How far the scores can be trusted.
    """

    plan: AcceptedPlanStages
    searched: Stage[Searched]
    files: Stage[Delivery]
    scores: Stage[DeliveredScores]
    judging: JudgingStages


def choose_delivery(store: Store, calibration: CalibrationStages, search: SearchStages) -> DeliveryStages:
    """The stages that deliver what was found: refined for that plan if wanted, and as NVIDIA's compiler takes it."""
    plan = choose_accepted_plan(store, calibration, search)
    searched = _searched(plan)
    delivered = _plan(searched)
    files = _files(calibration.scored.network, delivered, plan.refinements)
    measured = _measured(calibration, files, delivered, plan.refinements)
    scores = verified(measured, plan.result)
    return DeliveryStages(plan, searched, files, scores, judging_of(files, measured, scores))


def deliver_tried(store: Store, calibration: CalibrationStages, search: SearchStages, digest: str) -> PrecisionPlan:
    """Write another plan that the search tried into the folder `plans/DIGEST`, with the refinements that all share.

    Raises:
        SettingsError: `digest` begins none of them, or several.
    """
    plan = store[search.result].tried(digest)
    emitter = store[calibration.scored.network].emitter(store[search.shared].refinements)
    deliver(emitter, plan, store.folder / "plans" / plan.digest)
    return plan


def _searched(plan: AcceptedPlanStages) -> Stage[Searched]:
    result, refinements = plan.result, plan.refinements
    return Stage(
        SEARCHED.name,
        lambda job: Searched.of(
            job[result], job[refinements], job[METRIC].name, job[OUTPUTS].specs, job[FP32], job[REQUIRED],
            identity_of(job[EVALUATION], job[METRIC], job[SCORER].outputs),
        ),
        json_kind(Searched), needs=(result, refinements, METRIC, OUTPUTS, FP32, REQUIRED, EVALUATION, SCORER),
    )  # fmt: skip


def _plan(searched: Stage[Searched]) -> Stage[PrecisionPlan]:
    return Stage(
        "delivered-plan", lambda job: job[searched].result.chosen.plan, needs=(searched,), digest=lambda p: p.digest
    )


def _files(network: Stage[Network], plan: Stage[PrecisionPlan], refinements: Stage[Refinements]) -> Stage[Delivery]:
    return Stage(
        "delivery",
        lambda job: deliver(job[network].emitter(job[refinements]), job[plan], job.path("plan.json").parent),
        json_kind(Delivery), needs=(network, plan, refinements), files=FLAVOUR_FILES, title="Writing the plan",
    )  # fmt: skip


def _measured(
    calibration: CalibrationStages, files: Stage[Delivery], plan: Stage[PrecisionPlan], refinements: Stage[Refinements]
) -> Stage[DeliveredScores]:
    """Scores of all files of the plan as they lie on disk."""
    network, cache = calibration.scored.network, calibration.scored.cache

    def measure(job: Job) -> DeliveredScores:
        evaluator = PlanEvaluator.of(job[network], job[refinements], job[SCORER], job[cache])
        found: PrecisionPlan = job[plan]
        reference = _reference_score(job, evaluator, job[network].emitter(job[refinements]), found)
        typed = evaluator.on_disk(job.path("typed.onnx")) if job[files].portable else None
        weak = job.path("weak.onnx")
        return DeliveredScores(reference, typed, evaluator.on_disk(weak) if weak.exists() else None)

    return Stage(
        "verification", measure, json_kind(DeliveredScores), needs=(files, plan, network, refinements, SCORER, cache),
        files=(PLAN_SAMPLES,), title="Verifying the files",
    )  # fmt: skip


def _reference_score(job: Job, evaluator: PlanEvaluator, emitter: Emitter, plan: PrecisionPlan) -> Score:
    """The score of `reference.onnx`, which is run unless this process scored the graph that it holds byte for byte."""
    path = job.path("reference.onnx")
    known = evaluator.samples(plan)
    if known is not None and holds_reference(path, emitter, plan):
        write_samples(known, job.path(PLAN_SAMPLES))
        return evaluator.score(plan)
    scorer = job[SCORER]
    scoring = scorer.finished(scorer.begun(), path)
    keep_samples(scoring, job.path(PLAN_SAMPLES))
    return scoring.result()
