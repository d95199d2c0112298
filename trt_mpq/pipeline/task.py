"""The task: which tensors count, by which metric, and which loss stands for it."""

from __future__ import annotations

import sys
from pathlib import Path

from trt_mpq.artifacts.files import sha256_of
from trt_mpq.artifacts.stage import Job, Stage, json_kind
from trt_mpq.evaluate.losses import loss_for
from trt_mpq.evaluate.metrics import TaskMetric, metric_from_name
from trt_mpq.evaluate.outputs import CountedOutputs, counted_outputs
from trt_mpq.pipeline.model_states import ORIGINAL
from trt_mpq.pipeline.sources import BATCH, CALIBRATION, EVALUATION, RUNTIME

OUTPUTS = Stage(
    "outputs",
    lambda job: counted_outputs(job[ORIGINAL], job.settings.outputs, job[EVALUATION], job[RUNTIME], job[BATCH]),
    json_kind(CountedOutputs), needs=(ORIGINAL, EVALUATION, RUNTIME, BATCH), reads=("outputs",),
)  # fmt: skip
"""The tensors that count."""


def _metric(job: Job) -> TaskMetric:
    data = job[EVALUATION]
    return metric_from_name(
        job.settings.task_metric,
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
    "metric", _metric, reads=("task_metric",), needs=(EVALUATION, OUTPUTS), uses=("metric_timeout",),
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
