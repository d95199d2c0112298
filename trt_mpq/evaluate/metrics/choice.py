"""Which metric a name stands for, and whether it fits the model and its data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from trt_mpq.errors import MetricError
from trt_mpq.evaluate.metrics.base import TaskMetric
from trt_mpq.evaluate.metrics.classes import accuracy, is_classifier, perplexity, top_k
from trt_mpq.evaluate.metrics.correlation import correlation
from trt_mpq.evaluate.metrics.detection import detection_metric
from trt_mpq.evaluate.metrics.fidelity import FIDELITY, fidelity
from trt_mpq.evaluate.metrics.recognition import error_rate
from trt_mpq.evaluate.metrics.segmentation import mean_iou
from trt_mpq.evaluate.metrics.spans import span_metric
from trt_mpq.evaluate.metrics.user import import_function, user_metric
from trt_mpq.types import TensorSpec

_LABELLED: dict[str, Callable[[str, tuple[TensorSpec, ...]], TaskMetric]] = {
    "top1": partial(top_k, k=1),
    "top5": partial(top_k, k=5),
    "accuracy": accuracy,
    "spearman": correlation,
    "pearson": correlation,
    "exact-match": span_metric,
    "f1": span_metric,
    "perplexity": perplexity,
    "miou": mean_iou,
}
"""Metrics that need labels: name to what makes the metric, from its name and the model's outputs."""
_DECODED: dict[str, Callable[[str, tuple[TensorSpec, ...], str | None], TaskMetric]] = {
    "map50": detection_metric,
    "map50-95": detection_metric,
    "wer": error_rate,
    "cer": error_rate,
}
"""Those that need to know, besides, how outputs become what is compared."""
_OF_SEVERAL_ROWS = ("spearman", "pearson", "sqnr", "cosine")
"""Those for which a sample may be several rows of the model's batch."""

METRIC_NAMES = ("auto", *_LABELLED, *_DECODED, *FIDELITY)
"""The metrics that come with the product, as spelled on the command line."""


def metric_from_name(
    name: str,
    *,
    has_labels: bool,
    outputs: tuple[TensorSpec, ...],
    rows_per_sample: int = 1,
    limit_s: float | None = None,
    decode: str | None = None,
) -> TaskMetric:
    """The metric called `name`.

    Args:
        name: One of `METRIC_NAMES`, or `module:function` for the user's own, which is called as
            ``function(outputs: dict[str, ndarray], labels: ndarray | None) -> ndarray[n] | float``
            with all n samples at once, in the order of the data, and returns one score per sample or one
            for all, higher is better; `module` is also looked for in the current directory.
        has_labels: Whether the evaluation data has labels.
        outputs: The model's outputs; dimension 0 of each is the batch.
        rows_per_sample: Rows of the model's batch that make one sample; metrics see outputs [n, rows, ...] if
            there are several.
        limit_s: Seconds that a call of the user's function may take.
        decode: How outputs become boxes or texts, for the metrics of these.

    Raises:
        MetricError: The name is unknown, the user's function cannot be imported, or the metric does
            not fit the data or the outputs.
    """
    if ":" in name:
        return user_metric(name, import_function(name), limit_s)
    if name == "auto":
        name = _automatic(has_labels, outputs, rows_per_sample)
    if name not in METRIC_NAMES:
        raise MetricError(f"unknown metric {name!r}: choose {', '.join(METRIC_NAMES)} or module:function")
    _check_data(name, has_labels, rows_per_sample)
    if name in _DECODED:
        return replace(_DECODED[name](name, outputs, decode), decode=decode)
    return _LABELLED.get(name, fidelity)(name, outputs)


def _automatic(has_labels: bool, outputs: tuple[TensorSpec, ...], rows_per_sample: int) -> str:
    if has_labels and len(outputs) == 1 and rows_per_sample == 2:
        return "spearman"
    return "top1" if has_labels and rows_per_sample == 1 and is_classifier(outputs) else "sqnr"


def _check_data(name: str, has_labels: bool, rows_per_sample: int) -> None:
    if (name in _LABELLED or name in _DECODED) and not has_labels:
        raise MetricError(
            f"metric {name} needs labels and the evaluation data has none: add `labels`, or choose a fidelity metric "
            f"({', '.join(FIDELITY)})"
        )
    if rows_per_sample > 1 and name not in _OF_SEVERAL_ROWS:
        raise MetricError(
            f"metric {name} scores single rows and a sample of the evaluation data is {rows_per_sample}: use "
            f"{', '.join(_OF_SEVERAL_ROWS)} or module:function"
        )
