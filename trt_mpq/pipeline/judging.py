"""How far the scores of a run can be trusted: the data, the interval of the loss, a set that nothing was chosen on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trt_mpq.artifacts.stage import Job, Stage, content_digest, json_kind
from trt_mpq.artifacts.store import Store
from trt_mpq.dataset import Samples
from trt_mpq.dataset.chunks import chunks
from trt_mpq.dataset.sequences import data_for
from trt_mpq.emit.deliver import Delivery
from trt_mpq.errors import RuntimeFailure
from trt_mpq.evaluate.compare import compare_models, require_passed, required_snr_db
from trt_mpq.evaluate.interval import Holdout, LossInterval, loss_interval
from trt_mpq.evaluate.sanity import data_faults, output_faults, score_faults
from trt_mpq.pipeline.model_states import ORIGINAL
from trt_mpq.pipeline.scoring import (
    FP32,
    FP32_SAMPLES,
    PLAN_SAMPLES,
    SCORER_NEEDS,
    SCORER_USES,
    required_score,
    scorer_on,
)
from trt_mpq.pipeline.sources import (
    BATCH,
    CALIBRATION,
    DATA_NOTES,
    EVALUATION,
    EVALUATION_ROWS,
    PIXELS,
    PREPARED,
    RUNTIME,
)
from trt_mpq.pipeline.task import METRIC, OUTPUTS
from trt_mpq.types import Comparison, DeliveredScores, SearchResult

_ROUNDING = 1e-6
"""Relative: less than one sample in a million, more than what another batch does to the last bits of a product."""


@dataclass(frozen=True)
class JudgingStages:
    """How far the scores of a run can be trusted.

    Attributes:
        notes: What the user should know about data and outputs, one sentence each.
        faults: What seems wrong with the data, one sentence each.
        loss: What the delivered plan loses on the evaluation data, with its interval; None if the metric tells none.
        holdout: Its score on data that nothing was chosen on; only where there is such data.
        comparison: Polygraphy's comparison of the typed model with FP32.
    """

    notes: Stage[tuple[str, ...]]
    faults: Stage[tuple[str, ...]]
    loss: Stage[LossInterval | None]
    holdout: Stage[Holdout]
    comparison: Stage[Comparison]

    def compared(self, store: Store) -> Comparison:
        """The comparison; raises ComparisonFailed if an output fails it and that is required."""
        comparison = store[self.comparison]
        if store.settings.require_comparison:
            require_passed(comparison, comparison.file)
        return comparison


def judging_of(
    files: Stage[Delivery], measured: Stage[DeliveredScores], scores: Stage[DeliveredScores]
) -> JudgingStages:
    """Those of the plan that was delivered as `files`, which have the `scores`."""
    return JudgingStages(_NOTES, _FAULTS, _loss(measured), _holdout(files), _comparison(files, scores))


def verified(measured: Stage[DeliveredScores], result: Stage[SearchResult]) -> Stage[DeliveredScores]:
    """Scores of the files of a plan; raises RuntimeFailure if the reference's is not what the search measured."""

    def verify(job: Job) -> DeliveredScores:
        reference, searched = job[measured].reference.value, job[result].chosen.score.value
        if not math.isclose(reference, searched, rel_tol=_ROUNDING):
            raise RuntimeFailure(
                f"reference.onnx scores {reference:.6g} and the search measured {searched:.6g} for the same plan, "
                f"perhaps on another machine: delete {job.folder} and run again"
            )
        return job[measured]

    return Stage("verified", verify, needs=(measured, result), digest=content_digest(DeliveredScores))


def _faults(job: Job) -> tuple[str, ...]:
    first = next(chunks(job[EVALUATION], job[BATCH]))
    outputs = first.run(job[RUNTIME].load(job[ORIGINAL]))
    between = data_faults(job[CALIBRATION], job[EVALUATION_ROWS]) if job.settings.eval is not None else ()
    return (
        *score_faults(job[METRIC], job[FP32], job[EVALUATION]),
        *output_faults(first.batch.feeds, outputs),
        *between,
    )


_NOTES = Stage("notes", lambda job: (*job[DATA_NOTES], *job[OUTPUTS].notes), needs=(DATA_NOTES, OUTPUTS))

_FAULTS = Stage(
    "data-faults", _faults, needs=(FP32, METRIC, EVALUATION, EVALUATION_ROWS, CALIBRATION, BATCH, RUNTIME, ORIGINAL),
    reads=("eval",),
)  # fmt: skip


def _loss(scores: Stage[DeliveredScores]) -> Stage[LossInterval | None]:
    """What the delivered plan loses on the evaluation data, with its interval; None if the metric tells none."""

    def make(job: Job) -> LossInterval | None:
        paths = job.path(FP32_SAMPLES), job.path(PLAN_SAMPLES)
        if not all(path.exists() for path in paths):
            return None
        fp32, plan = (np.load(path, allow_pickle=False) for path in paths)
        return loss_interval(job[METRIC], fp32, plan, job.settings.seed)

    return Stage("loss-interval", make, needs=(FP32, scores, METRIC), reads=("seed",))


def _holdout_data(job: Job) -> Samples:
    assert job.settings.holdout is not None
    return data_for(job[PREPARED], job.settings.holdout, job[PIXELS])


HOLDOUT_DATA = Stage(
    "holdout-data", _holdout_data, reads=("holdout",), needs=(PREPARED, PIXELS), digest=lambda data: data.fingerprint
)


def _holdout(files: Stage[Delivery]) -> Stage[Holdout]:
    """The delivered plan judged once on the holdout set."""

    def make(job: Job) -> Holdout:
        data, settings = job[HOLDOUT_DATA], job.settings
        scorer = scorer_on(job, data)
        fp32 = scorer.score(job[ORIGINAL])
        required = required_score(fp32.value, settings.target_accuracy, settings.allowed_loss)
        return Holdout(data.source, fp32, scorer.score(job.path("reference.onnx")), required)

    return Stage(
        "holdout", make, json_kind(Holdout), needs=(files, HOLDOUT_DATA, *SCORER_NEEDS),
        reads=("target_accuracy", "allowed_loss", "outputs"), uses=SCORER_USES, title="Judging on the holdout set",
    )  # fmt: skip


def _comparison(files: Stage[Delivery], scores: Stage[DeliveredScores]) -> Stage[Comparison]:
    def make(job: Job) -> Comparison:
        original, tested = job.path(job[PREPARED].path), job.path(job[files].tested)
        required_db = required_snr_db(job.settings.least_snr_db, job[OUTPUTS].names)
        return compare_models(original, tested, job[EVALUATION_ROWS], job[BATCH], required_db)

    return Stage(
        "comparison", make, json_kind(Comparison), needs=(files, scores, PREPARED, EVALUATION_ROWS, OUTPUTS, BATCH),
        reads=("least_snr_db",), title="Comparing with Polygraphy",
    )  # fmt: skip
