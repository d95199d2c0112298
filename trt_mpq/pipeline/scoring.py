"""Scores: by which tensors and which metric, of the FP32 model, of plans, and what a plan must have."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from trt_mpq.artifacts.files import atomic_path, key_of, sha256_of
from trt_mpq.artifacts.stage import Job, Stage, content_digest, json_kind
from trt_mpq.emit import Network, Refinements
from trt_mpq.errors import MetricError
from trt_mpq.evaluate.cache import ScoreCache
from trt_mpq.evaluate.losses import loss_for
from trt_mpq.evaluate.metrics import TaskMetric, metric_from_name
from trt_mpq.evaluate.outputs import CountedOutputs, counted_outputs
from trt_mpq.evaluate.plans import EarlyStop, PlanEvaluator
from trt_mpq.evaluate.scorer import Scorer
from trt_mpq.evaluate.stopping import paired_test, schedule_for
from trt_mpq.pipeline.model_states import ORIGINAL, State
from trt_mpq.pipeline.networks import restricted_groups_of
from trt_mpq.pipeline.sources import BATCH, CALIBRATION, EVALUATION, RUNTIME
from trt_mpq.types import Precision, Score

_FP32_SAMPLES = "fp32-samples.npy"


OUTPUTS = Stage(
    "outputs",
    lambda job: counted_outputs(job[ORIGINAL], job.settings.outputs, job[EVALUATION], job[RUNTIME], job[BATCH]),
    json_kind(CountedOutputs), needs=(ORIGINAL, EVALUATION, RUNTIME, BATCH), reads=("outputs",),
)  # fmt: skip
"""The tensors that count."""


def _metric(job: Job) -> TaskMetric:
    data = job[EVALUATION]
    return metric_from_name(
        job.settings.metric,
        has_labels=data.has_labels,
        outputs=job[OUTPUTS].specs,
        rows_per_sample=data.rows,
        limit_s=job.settings.metric_timeout,
    )


def digest_of_metric(metric: TaskMetric) -> str:
    """What tells a metric from others: its name, and for the user's own the content of its module's file."""
    module = sys.modules.get(metric.name.partition(":")[0]) if ":" in metric.name else None
    file = getattr(module, "__file__", None)
    return metric.name if file is None else f"{metric.name} {sha256_of(Path(file))}"


METRIC = Stage(
    "metric", _metric, reads=("metric",), needs=(EVALUATION, OUTPUTS), uses=("metric_timeout",),
    digest=digest_of_metric,
)  # fmt: skip
"""The task metric."""


def judged_outputs(metric: TaskMetric, asked: tuple[str, ...], counted: tuple[str, ...]) -> tuple[str, ...]:
    """What `metric` is given: the `counted` tensors; the user's own is given all that was `asked` for, or all outputs.

    An empty result stands for all outputs.
    """
    return asked if ":" in metric.name else counted


LOSS = Stage(
    "loss",
    lambda job: loss_for(has_labels=job[CALIBRATION].has_labels, classification=job[METRIC].of_classes),
    needs=(CALIBRATION, METRIC), digest=lambda loss: loss.name,
)  # fmt: skip
"""What the sensitivity metrics measure on the calibration data."""

SCHEDULE = Stage(
    "schedule",
    lambda job: schedule_for(job[METRIC], job[EVALUATION], job[BATCH], job.settings.confidence, job.settings.seed),
    needs=(METRIC, EVALUATION, BATCH), reads=("confidence", "seed"),
)  # fmt: skip
"""Order and portions in which samples run, so that an evaluation may stop early."""

SCORER = Stage(
    "scorer",
    lambda job: Scorer(
        job[ORIGINAL], job[RUNTIME], job[EVALUATION], job[METRIC], job[BATCH], job[SCHEDULE],
        judged_outputs(job[METRIC], job.settings.outputs, job[OUTPUTS].names),
    ),
    needs=(ORIGINAL, RUNTIME, EVALUATION, METRIC, OUTPUTS, BATCH), reads=("outputs",), uses=(SCHEDULE,),
)  # fmt: skip
"""Scores graphs on the evaluation data; fidelity metrics compare with the original model.

The order in which samples are drawn changes no score: sums are in the order of the data.
"""


def _fp32(job: Job) -> Score:
    scorer = job[SCORER]
    scoring = scorer.finished(scorer.begun(), job[ORIGINAL], job.progress)
    if (numbers := scoring.in_data_order) is not None:
        with atomic_path(job.path(_FP32_SAMPLES)) as path, path.open("wb") as file:
            np.save(file, numbers, allow_pickle=False)
    return scoring.result()


FP32 = Stage("fp32", _fp32, json_kind(Score), needs=(ORIGINAL, SCORER), files=(_FP32_SAMPLES,), title="Scoring FP32")
"""Score of the original model; what the metric keeps of each sample lies beside it, for paired tests."""


def required_score(fp32: float, share: float, max_loss: float | None) -> float:
    """The least score of a plan, so that it loses at most `max_loss`, or else keeps the `share` of the FP32 score.

    Scores may be negative, as a log-likelihood is: what may be lost of one is the rest of the share of its magnitude.
    """
    if max_loss is not None:
        return fp32 - max_loss
    return share * fp32 if fp32 >= 0 else fp32 + (1 - share) * fp32


def _required(job: Job) -> float:
    settings, fp32, metric = job.settings, job[FP32].value, job[METRIC].name
    share_counts = settings.seeks_target and settings.max_loss is None
    if fp32 == 0 and share_counts:
        raise MetricError(
            f"the FP32 model scores 0 by the metric {metric}, and no share of that can be kept: check "
            "labels, preprocessing and metric, or say with --max-loss how much a plan may lose"
        )
    return required_score(fp32, settings.target_accuracy, settings.max_loss)


REQUIRED = Stage(
    "required", _required, reads=("target_accuracy", "max_loss", "seeks_target"), needs=(FP32, METRIC),
    digest=content_digest(float),
)  # fmt: skip
"""The least score a plan must have."""


def _stop(job: Job) -> EarlyStop | None:
    required, schedule, path = job[REQUIRED], job[SCHEDULE], job.path(_FP32_SAMPLES)
    baseline = np.load(path, allow_pickle=False) if path.exists() else None
    test = paired_test(job[METRIC], schedule, baseline, required, job.settings.confidence)
    return None if test is None else EarlyStop(test, required, key_of(job.key, schedule.ends))


STOP = Stage("early-stop", _stop, needs=(METRIC, SCHEDULE, FP32, REQUIRED), reads=("confidence",))
"""When the evaluation of a plan that is judged may end; None if it runs every sample."""


def score_cache_of(state: State) -> Stage[ScoreCache]:
    """Scores of plans of the model: what they depend on, beside the plan, its formats' ranges and its refinement."""
    return Stage(
        "scores", lambda job: ScoreCache(job.path("evaluations.jsonl"), job.key),
        needs=(restricted_groups_of(state), state.graph, CALIBRATION, RUNTIME, EVALUATION, METRIC, OUTPUTS, BATCH),
        files=("evaluations.jsonl",),
    )  # fmt: skip


def uniform_score(
    job: Job, cache: Stage[ScoreCache], network: Network, precision: Precision, text: str, refinements: Refinements
) -> float:
    """Score of the uniform plan of `precision`; the `text` tells whoever watches in which state the network is.

    The job has declared `cache` and SCORER.
    """
    evaluator = PlanEvaluator.of(network, refinements, job[SCORER], job[cache])
    title = f"Scoring uniform {precision} {text}"
    return evaluator.score(network.grouping.uniform(precision), lambda: job.observer.stage(title)).value
