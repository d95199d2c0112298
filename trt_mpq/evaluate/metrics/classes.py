"""Metrics of class scores [N, ..., C] against integer labels [N, ...]: right answers, and perplexity.

Outputs of more than two axes hold a classification per position (a tag per token, the next token of a language
model); a label of -100 there, torch's convention, says that the position does not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from trt_mpq.errors import MetricError
from trt_mpq.evaluate.losses import IGNORED, from_one_hot, label_losses
from trt_mpq.evaluate.metrics.base import PerSample, Scores, TaskMetric, mean_metric, single_output
from trt_mpq.evaluate.metrics.corpus import corpus_metric, ratio
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.types import TensorSpec


def top_k(name: str, outputs: tuple[TensorSpec, ...], k: int) -> TaskMetric:
    """Share of samples whose label is among the k largest of the class scores [N, C]."""
    spec = single_output(name, outputs)
    require_class_scores(name, spec)
    if isinstance(spec.shape[1], int) and spec.shape[1] <= k:
        raise MetricError(f"metric {name} is always 1 with the {spec.shape[1]} classes of {spec.name!r}: use top1")

    def score(batch: Arrays, labels: Array | None, reference: Arrays | None) -> Scores:
        logits = batch[spec.name]
        return correct_in_top_k(logits, _class_labels(labels, logits, name), k).astype(np.float64)

    return mean_metric(name, score, needs_labels=True, of_classes=True)


def accuracy(name: str, outputs: tuple[TensorSpec, ...]) -> TaskMetric:
    """`top1` for class scores [N, C]; for [N, ..., C] the share of all positions that count."""
    spec = single_output(name, outputs)
    if len(spec.shape) == 2:
        return top_k(name, outputs, 1)
    require_class_scores(name, spec, per_position=True)

    def quantities(batch: Arrays, labels: Array | None, reference: Arrays | None) -> Scores:
        logits = batch[spec.name]
        classes = _class_labels(labels, logits, name, may_ignore=True)
        counted = classes != IGNORED
        right = np.zeros(classes.shape)
        right[counted] = correct_in_top_k(logits[counted], classes[counted], 1)
        return _sums(right, counted)

    return _per_position(name, quantities, ratio)


def perplexity(name: str, outputs: tuple[TensorSpec, ...]) -> TaskMetric:
    """1 / perplexity = exp(-mean negative log-likelihood of the labels), over all positions that count.

    The reciprocal, because higher is better: it is the geometric mean of the probabilities given to the labels. The
    label of a position is the class that its scores should predict, the next token for a language model.
    """
    spec = single_output(name, outputs)
    require_class_scores(name, spec, per_position=True)

    def quantities(batch: Arrays, labels: Array | None, reference: Arrays | None) -> Scores:
        logits = batch[spec.name]
        classes = _class_labels(labels, logits, name, may_ignore=True)
        with np.errstate(invalid="ignore"):  # infinite scores have no softmax, which is the next line's
            losses = label_losses(logits, classes)
        return _sums(np.where(np.isnan(losses), np.inf, losses), classes != IGNORED)

    return _per_position(name, quantities, lambda sums: math.exp(-ratio(sums)))


def correct_in_top_k(logits: Array, labels: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Whether each label is among the k largest logits; equal logits rank by class index.

    Args:
        logits: Class scores [n, C]; a row with NaN is wrong (argmax would pick the NaN).
        labels: Classes [n] in 0..C-1.
        k: How many classes count.

    Returns:
        bool [n].
    """
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    rank = np.sum((logits > own) | ((logits == own) & earlier), axis=1)
    return np.asarray((rank < k) & ~np.isnan(logits).any(axis=1))


def is_classifier(outputs: tuple[TensorSpec, ...]) -> bool:
    """Whether a model has one output, of class scores [N, C]."""
    return len(outputs) == 1 and _is_class_scores(outputs[0])


def require_class_scores(metric: str, spec: TensorSpec, *, per_position: bool = False) -> None:
    """Raise MetricError unless an output is [N, C] with C > 1, or [N, ..., C] for metrics `per_position`."""
    if not _is_class_scores(spec) and not (per_position and len(spec.shape) > 2):
        wanted = "[N, ..., C]" if per_position else "[N, C]"
        raise MetricError(
            f"metric {metric} compares class scores {wanted} and output {spec.name!r} is {list(spec.shape)}: "
            "use sqnr, cosine or module:function"
        )


def _is_class_scores(spec: TensorSpec) -> bool:
    return len(spec.shape) == 2 and spec.shape[1] != 1


def _per_position(name: str, quantities: PerSample, statistic: Callable[[Scores], float]) -> TaskMetric:
    def check(sums: Scores) -> None:
        if not sums[:, 1].any():
            raise MetricError(f"metric {name} has nothing to score: every label is {IGNORED}, which does not count")

    return corpus_metric(name, quantities, statistic, check, of_classes=True)


def _sums(values: Scores, counted: NDArray[np.bool_]) -> Scores:
    """Per sample the sum of `values` [n, ...] and how many count, [n, 2]."""
    axes = tuple(range(1, values.ndim))
    return np.stack([values.sum(axis=axes), counted.sum(axis=axes)], axis=1)


def _class_labels(labels: Array | None, logits: Array, metric: str, *, may_ignore: bool = False) -> NDArray[np.int64]:
    """Labels [n, ...] that fit class scores [n, ..., C], with -100 among them if it `may_ignore` some; or one-hot."""
    labels = from_one_hot(labels, logits.shape)
    if labels is None or labels.dtype.kind not in "iu" or labels.shape != logits.shape[:-1]:
        found = "none" if labels is None else f"{labels.dtype} of shape {labels.shape}"
        each = "sample" if logits.ndim == 2 else f"position, {list(logits.shape[:-1])}"
        raise MetricError(
            f"metric {metric} needs one integer class label per {each}, found {found}: use module:function"
        )
    classes = logits.shape[-1]
    known = labels[labels != IGNORED] if may_ignore else labels
    if known.size and (known.min() < 0 or known.max() >= classes):
        raise MetricError(
            f"metric {metric}: labels run from {known.min()} to {known.max()} but the model has the classes 0 to "
            f"{classes - 1}: check that both number classes alike"
        )
    return labels.astype(np.int64)
