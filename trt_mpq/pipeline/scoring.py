"""Scores: of the FP32 model, of plans, and what a plan must have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trt_mpq.artifacts.files import atomic_path, key_of
from trt_mpq.artifacts.stage import Job, Stage, content_digest, json_kind
from trt_mpq.dataset import Samples
from trt_mpq.errors import MetricError
from trt_mpq.evaluate.cache import EVALUATIONS, ScoreCache
from trt_mpq.evaluate.plans import EarlyStop
from trt_mpq.evaluate.scorer import Scorer, Scoring
from trt_mpq.evaluate.sequential import Schedule
from trt_mpq.evaluate.stopping import paired_test, schedule_for
from trt_mpq.pipeline.model_states import ORIGINAL, State
from trt_mpq.pipeline.networks import restricted_groups_of
from trt_mpq.pipeline.sharing import SPREAD
from trt_mpq.pipeline.sources import BATCH, CALIBRATION, EVALUATION, RUNTIME
from trt_mpq.pipeline.task import METRIC, OUTPUTS, judged_outputs
from trt_mpq.types import Score

FP32_SAMPLES, PLAN_SAMPLES = "fp32-samples.npy", "plan-samples.npy"
"""What the metric keeps of each sample for FP32 and for the delivered plan; absent if it keeps nothing."""


SCHEDULE = Stage(
    "schedule",
    lambda job: schedule_for(job[METRIC], job[EVALUATION], job[BATCH], job.settings.confidence, job.settings.seed),
    needs=(METRIC, EVALUATION, BATCH), reads=("confidence", "seed"),
)  # fmt: skip
"""Order and portions in which samples run, so that an evaluation may stop early."""


SCORER_NEEDS, SCORER_USES = (ORIGINAL, RUNTIME, METRIC, OUTPUTS, BATCH), (SPREAD,)
"""Stages that `scorer_on` asks for beside the samples."""


def scorer_on(job: Job, samples: Samples, schedule: Schedule | None = None) -> Scorer:
    """Scores graphs on `samples` as plans are scored; the job has declared the above, and "outputs"."""
    judged = judged_outputs(job[METRIC], job.settings.outputs, job[OUTPUTS].names)
    return Scorer(job[ORIGINAL], job[RUNTIME], samples, job[METRIC], job[BATCH], schedule, judged, job[SPREAD])


SCORER = Stage(
    "scorer", lambda job: scorer_on(job, job[EVALUATION], job[SCHEDULE]),
    needs=(EVALUATION, *SCORER_NEEDS), reads=("outputs",), uses=(SCHEDULE, *SCORER_USES),
)  # fmt: skip
"""Scores graphs on the evaluation data; fidelity metrics compare with the original model.

The order in which samples are drawn changes no score: sums are in the order of the data.
"""


def _fp32(job: Job) -> Score:
    scorer = job[SCORER]
    scoring = scorer.finished(scorer.begun(), job[ORIGINAL], job.progress)
    keep_samples(scoring, job.path(FP32_SAMPLES))
    return scoring.result()


def keep_samples(scoring: Scoring, path: Path) -> None:
    """Write what the metric keeps of each sample, in the order of the data, if it keeps anything."""
    if (numbers := scoring.in_data_order) is not None:
        write_samples(numbers, path)


def write_samples(numbers: NDArray[np.float64], path: Path) -> None:
    """Write what the metric keeps of each sample."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, numbers, allow_pickle=False)


FP32 = Stage("fp32", _fp32, json_kind(Score), needs=(ORIGINAL, SCORER), files=(FP32_SAMPLES,), title="Scoring FP32")
"""Score of the original model; what the metric keeps of each sample lies beside it, for paired tests."""


def required_score(fp32: float, share: float, allowed: float | None) -> float:
    """The least score of a plan, so that it loses at most `allowed`, or else keeps the `share` of the FP32 score.

    Scores may be negative, as a log-likelihood is: what may be lost of one is the rest of the share of its magnitude.
    """
    if allowed is not None:
        return fp32 - allowed
    return share * fp32 if fp32 >= 0 else fp32 + (1 - share) * fp32


def _required(job: Job) -> float:
    settings, fp32, metric = job.settings, job[FP32].value, job[METRIC].name
    share_counts = settings.seeks_target and settings.allowed_loss is None
    if fp32 == 0 and share_counts:
        raise MetricError(
            f"the FP32 model scores 0 by the metric {metric}, and no share of that can be kept: check "
            "labels, preprocessing and metric, or say with --max-loss how much a plan may lose"
        )
    return required_score(fp32, settings.target_accuracy, settings.allowed_loss)


REQUIRED = Stage(
    "required", _required, reads=("target_accuracy", "allowed_loss", "seeks_target"),
    needs=(FP32, METRIC),
    digest=content_digest(float),
)  # fmt: skip
"""The least score a plan must have."""


def _stop(job: Job) -> EarlyStop | None:
    required, schedule, path = job[REQUIRED], job[SCHEDULE], job.path(FP32_SAMPLES)
    baseline = np.load(path, allow_pickle=False) if path.exists() else None
    test = paired_test(job[METRIC], schedule, baseline, required, job.settings.confidence)
    return None if test is None else EarlyStop(test, required, key_of(job.key, schedule.ends))


STOP = Stage("early-stop", _stop, needs=(METRIC, SCHEDULE, FP32, REQUIRED), reads=("confidence",))
"""When the evaluation of a plan that is judged may end; None if it runs every sample."""


def score_cache_of(state: State) -> Stage[ScoreCache]:
    """Scores of plans of the model: what they depend on, beside the plan, its formats' ranges and its refinement."""
    return Stage(
        "scores", lambda job: ScoreCache(job.path(EVALUATIONS), job.key),
        needs=(restricted_groups_of(state), state.graph, CALIBRATION, RUNTIME, EVALUATION, METRIC, OUTPUTS, BATCH),
        files=(EVALUATIONS,),
    )  # fmt: skip
