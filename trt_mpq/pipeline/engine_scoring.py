"""What gives the task score of engines, where the evaluation data is at hand."""

from __future__ import annotations

from trt_mpq.artifacts.files import key_of
from trt_mpq.artifacts.stage import Job, Stage
from trt_mpq.dataset import Samples, open_samples
from trt_mpq.engine.deploy import EngineScorer
from trt_mpq.engine.handover import DESCRIBED, SEARCHED
from trt_mpq.evaluate.metrics import TaskMetric, metric_from_name
from trt_mpq.evaluate.scorer import Scorer
from trt_mpq.model import load_graph
from trt_mpq.pipeline.scoring import SCORER
from trt_mpq.pipeline.sources import EVALUATION, METRIC, RUNTIME, digest_of_metric


def _identity(samples: Samples, metric: TaskMetric) -> str:
    """The same in both halves of a run for the same data and metric."""
    return key_of(samples.fingerprint, digest_of_metric(metric))


def _from_settings(job: Job) -> EngineScorer | None:
    described, data = job[DESCRIBED], job.settings.eval
    if data is None:
        return None
    samples, count = open_samples(data, described.original.inputs), job.settings.eval_samples
    if count is not None:
        samples = samples.take(count)
    metric = metric_from_name(
        job[SEARCHED].metric, has_labels=samples.has_labels, outputs=described.original.outputs,
        rows_per_sample=samples.rows,
    )  # fmt: skip
    fp32 = load_graph(job.folder / described.original.path)
    scorer = Scorer(fp32, job[RUNTIME], samples, metric, described.batch)
    return EngineScorer(_identity(samples, metric), scorer.score_session)


ENGINE_SCORER: Stage[EngineScorer | None] = Stage(
    "engine-scorer",
    lambda job: EngineScorer(_identity(job[EVALUATION], job[METRIC]), job[SCORER].score_session),
    needs=(EVALUATION, METRIC, SCORER), digest=lambda scorer: scorer.identity,
)  # fmt: skip
"""On the evaluation data of the run."""

DEVICE_ENGINE_SCORER: Stage[EngineScorer | None] = Stage(
    "device-engine-scorer", _from_settings, needs=(DESCRIBED, SEARCHED, RUNTIME), reads=("eval", "eval_samples"),
    digest=lambda scorer: scorer.identity if scorer else "",
)  # fmt: skip
"""In the device half: on the data of the settings; None if they name none.

Making it raises DataError if the data cannot be read or does not fit the model, and MetricError if the metric of the
search cannot be used.
"""

NO_ENGINE_SCORER: Stage[EngineScorer | None] = Stage("no-engine-scorer", lambda job: None, digest=lambda scorer: "")
"""Where there is no data."""
