"""What gives the task score of engines, where the evaluation data is at hand."""

from __future__ import annotations

from collections.abc import Callable

from trt_mpq.artifacts.files import key_of
from trt_mpq.artifacts.stage import Job, Stage
from trt_mpq.dataset import Samples
from trt_mpq.dataset.pixels import pixels_from
from trt_mpq.dataset.sequences import data_for
from trt_mpq.engine.deploy import EngineScorer
from trt_mpq.engine.handover import DESCRIBED, SEARCHED
from trt_mpq.evaluate.metrics import TaskMetric, metric_from_name
from trt_mpq.evaluate.scorer import Scorer
from trt_mpq.model import load_graph
from trt_mpq.pipeline.scoring import SCORER
from trt_mpq.pipeline.sources import EVALUATION, PREPARED, RUNTIME
from trt_mpq.pipeline.task import METRIC, digest_of_metric, judged_outputs
from trt_mpq.types import Model


def identity_of(samples: Samples, metric: TaskMetric, outputs: tuple[str, ...]) -> str:
    """The same in both halves of a run for the same data, metric and tensors that it judges."""
    return key_of(samples.fingerprint, digest_of_metric(metric), outputs)


def _engine_scorer(
    scorer: Scorer,
    samples: Samples,
    metric: TaskMetric,
    original: Model,
    required: Callable[[float], float] = float,
) -> EngineScorer | None:
    """None where the score is of what engines do not give."""
    if not set(scorer.outputs) <= {spec.name for spec in original.outputs}:
        return None
    return EngineScorer(identity_of(samples, metric, scorer.outputs), scorer.score_session, required)


def _from_settings(job: Job) -> EngineScorer | None:
    described, data = job[DESCRIBED], job.settings.eval
    if data is None:
        return None
    pixels = pixels_from(job.settings.preprocess, job.settings.model)
    original, count = described.original, job.settings.eval_samples
    samples = data_for(original, data, pixels)
    if count is not None:
        samples = samples.take(count)
    searched = job[SEARCHED]
    metric = metric_from_name(
        searched.metric,
        has_labels=samples.has_labels,
        outputs=searched.outputs,
        rows_per_sample=samples.rows,
        decode=job.settings.decode,
    )
    counted = tuple(spec.name for spec in searched.outputs)
    fp32 = load_graph(job.folder / described.original.path)
    judged = judged_outputs(metric, job.settings.outputs, counted)
    scorer = Scorer(fp32, job[RUNTIME], samples, metric, described.batch, outputs=judged)

    def required(of_the_search: float) -> float:
        """The same share of what FP32 scores on this data, if it is other data; of a score of 0, the same distance."""
        if identity_of(samples, metric, scorer.outputs) == searched.evaluated_on:
            return of_the_search
        with job.observer.stage("Scoring FP32 on this data"):
            here = scorer.score(fp32).value
        return here * of_the_search / searched.fp32.value if searched.fp32.value else here + of_the_search

    return _engine_scorer(scorer, samples, metric, described.original, required)


ENGINE_SCORER: Stage[EngineScorer | None] = Stage(
    "engine-scorer",
    lambda job: _engine_scorer(job[SCORER], job[EVALUATION], job[METRIC], job[PREPARED]),
    needs=(EVALUATION, METRIC, SCORER, PREPARED), digest=lambda scorer: scorer.identity if scorer else "",
)  # fmt: skip
"""On the evaluation data of the run."""

DEVICE_ENGINE_SCORER: Stage[EngineScorer | None] = Stage(
    "device-engine-scorer", _from_settings, needs=(DESCRIBED, SEARCHED, RUNTIME),
    reads=("eval", "eval_samples", "outputs", "decode", "preprocess", "model"),
    digest=lambda scorer: scorer.identity if scorer else "",
)  # fmt: skip
"""In the device half: on the data of the settings; None also if they name none.

Making it raises DataError if the data cannot be read or does not fit the model, and MetricError if the metric of the
search cannot be used.
"""

NO_ENGINE_SCORER: Stage[EngineScorer | None] = Stage("no-engine-scorer", lambda job: None, digest=lambda scorer: "")
"""Where there is no data."""
