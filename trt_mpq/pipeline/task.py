"""The task: which tensors count, by which metric, and which loss stands for it."""

from __future__ import annotations

import sys
from pathlib import Path

from trt_mpq.artifacts.files import sha256_of
from trt_mpq.artifacts.stage import Job, Stage, json_kind
from trt_mpq.evaluate.losses import loss_for
from trt_mpq.evaluate.metrics import TaskMetric, metric_from_name
from trt_mpq.evaluate.metrics.recognition import CTC
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
        decode=job.settings.decode,
    )


def digest_of_metric(metric: TaskMetric) -> str:
    """What tells a metric from others: its name, how outputs are decoded, and what files of either hold."""
    named = [metric.name] if metric.decode is None else [metric.name, metric.decode]
    return " ".join(f"{name} {digest}".rstrip() for name, digest in zip(named, map(_digest, named), strict=True))


def _digest(name: str) -> str:
    """Of the file that a name refers to: the module of a function, or a vocabulary."""
    kind, _, rest = name.partition(":")
    file = rest if name.startswith(CTC) else getattr(sys.modules.get(kind) if rest else None, "__file__", None)
    return sha256_of(Path(file)) if file else ""


METRIC = Stage(
    "metric", _metric, reads=("task_metric", "decode"), needs=(EVALUATION, OUTPUTS), uses=("metric_timeout",),
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
