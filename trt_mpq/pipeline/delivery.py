"""From the plan that a search found to what is delivered: refined for itself, written, verified and compared."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trt_mpq.artifacts.stage import Job, Stage, content_digest, json_kind
from trt_mpq.artifacts.store import Store
from trt_mpq.emit import Network, Refinements
from trt_mpq.emit.deliver import FLAVOUR_FILES, Delivery, deliver
from trt_mpq.engine.handover import SEARCHED, Searched
from trt_mpq.errors import RuntimeFailure
from trt_mpq.evaluate.compare import compare_models, require_passed, required_snr_db
from trt_mpq.evaluate.plans import PlanEvaluator
from trt_mpq.pipeline.calibration import CalibrationStages
from trt_mpq.pipeline.compilation import AcceptedPlanStages, choose_accepted_plan
from trt_mpq.pipeline.engine_scoring import identity_of
from trt_mpq.pipeline.scoring import FP32, METRIC, OUTPUTS, REQUIRED, SCORER
from trt_mpq.pipeline.search import SearchStages
from trt_mpq.pipeline.sources import BATCH, EVALUATION, PREPARED
from trt_mpq.types import Comparison, Score

_ROUNDING = 1e-6
"""Relative: less than one sample in a million, more than what another batch does to the last bits of a product."""


@dataclass(frozen=True)
class DeliveryStages:
    """The stages that deliver a plan.

    Attributes:
        plan: The plan, refined for itself.
        searched: What the search hands to the device half.
        files: The plan as ONNX files.
        scores: Scores of the files as they lie on disk, by flavour.
        comparison: Polygraphy's comparison of the typed model with FP32.
    """

    plan: AcceptedPlanStages
    searched: Stage[Searched]
    files: Stage[Delivery]
    scores: Stage[dict[str, Score]]
    comparison: Stage[Comparison]

    def compared(self, store: Store) -> Comparison:
        """The comparison; raises ComparisonFailed if an output fails it and that is required."""
        comparison = store[self.comparison]
        if store.settings.require_comparison:
            require_passed(comparison, "typed.onnx")
        return comparison


def choose_delivery(store: Store, calibration: CalibrationStages, search: SearchStages) -> DeliveryStages:
    """The stages that deliver what was found: refined for that plan if wanted, and as NVIDIA's compiler takes it."""
    plan = choose_accepted_plan(store, calibration, search)
    searched = _searched(plan)
    files = _files(calibration.scored.network, searched, plan.refinements)
    scores = _scores(calibration, files, plan)
    return DeliveryStages(plan, searched, files, scores, _comparison(files, scores))


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


def _files(network: Stage[Network], searched: Stage[Searched], refinements: Stage[Refinements]) -> Stage[Delivery]:
    plan = Stage(
        "delivered-plan", lambda job: job[searched].result.chosen.plan, needs=(searched,), digest=lambda p: p.digest
    )
    return Stage(
        "delivery",
        lambda job: deliver(job[network].emitter(job[refinements]), job[plan], job.path("plan.json").parent),
        json_kind(Delivery), needs=(network, plan, refinements), files=FLAVOUR_FILES, title="Writing the plan",
    )  # fmt: skip


def _scores(
    calibration: CalibrationStages, files: Stage[Delivery], plan: AcceptedPlanStages
) -> Stage[dict[str, Score]]:
    """Scores of all files of the plan; raises RuntimeFailure if the reference's is not what the search measured."""
    network, cache = calibration.scored.network, calibration.scored.cache
    refinements, result = plan.refinements, plan.result

    def measure(job: Job) -> dict[str, Score]:
        evaluator = PlanEvaluator.of(job[network], job[refinements], job[SCORER], job[cache])
        scores = {"reference": job[SCORER].score(job.path("reference.onnx"))}
        engines = [name for name in ("typed", "weak") if job.path(f"{name}.onnx").exists()]
        for done, name in enumerate(engines, start=1):
            job.progress(done, len(engines) + 1)
            scores[name] = evaluator.on_disk(job.path(f"{name}.onnx"))
        return scores

    measured = Stage(
        "verification", measure, json_kind(dict[str, Score]), needs=(files, network, refinements, SCORER, cache),
        title="Verifying the files",
    )  # fmt: skip

    def verify(job: Job) -> dict[str, Score]:
        reference, searched = job[measured]["reference"].value, job[result].chosen.score.value
        if not math.isclose(reference, searched, rel_tol=_ROUNDING):
            raise RuntimeFailure(
                f"reference.onnx scores {reference:.6g} and the search measured {searched:.6g} for the same plan, "
                f"perhaps on another machine: delete {job.folder} and run again"
            )
        return job[measured]

    return Stage("verified", verify, needs=(measured, result), digest=content_digest(dict[str, Score]))


def _comparison(files: Stage[Delivery], scores: Stage[dict[str, Score]]) -> Stage[Comparison]:
    def make(job: Job) -> Comparison:
        original, typed = job.path(job[PREPARED].path), job.path("typed.onnx")
        required_db = required_snr_db(job.settings.least_snr_db, job[OUTPUTS].names)
        return compare_models(original, typed, job[EVALUATION], job[BATCH], required_db)

    return Stage(
        "comparison", make, json_kind(Comparison), needs=(files, scores, PREPARED, EVALUATION, OUTPUTS, BATCH),
        reads=("least_snr_db",), title="Comparing with Polygraphy",
    )  # fmt: skip
