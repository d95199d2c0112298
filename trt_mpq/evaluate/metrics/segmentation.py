"""Mean intersection over union of the classes of pixels (Everingham et al., PASCAL VOC, 2010)."""

from __future__ import annotations

import numpy as np

from trt_mpq.errors import MetricError
from trt_mpq.evaluate.losses import IGNORED
from trt_mpq.evaluate.metrics.base import Scores, TaskMetric, single_output
from trt_mpq.evaluate.metrics.corpus import corpus_metric
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.types import TensorSpec

_UNLABELLED = (IGNORED, 255)
"""Labels of pixels that do not count: torch's convention, and that of VOC and Cityscapes."""


def mean_iou(name: str, outputs: tuple[TensorSpec, ...]) -> TaskMetric:
    """Of class scores [N, C, H, W] and labels [n, H, W]: summed over samples, then the mean over classes that occur.

    Scores at a fraction of the labels' size are compared with every label that they stand for.
    """
    spec = single_output(name, outputs)
    if len(spec.shape) != 4:
        raise MetricError(
            f"metric {name} reads class scores [N, C, H, W] and output {spec.name!r} is {list(spec.shape)}"
        )

    def quantities(batch: Arrays, labels: Array | None, reference: Arrays | None) -> Scores:
        scores = batch[spec.name]
        return np.stack(
            [_counts(name, own, label) for own, label in zip(scores, _of(name, labels, scores), strict=True)]
        )

    def statistic(counts: Scores) -> float:
        common, union = np.split(counts.sum(axis=0), 2)
        occurs = union > 0
        return float((common[occurs] / union[occurs]).mean()) if occurs.any() else 0.0

    def check(counts: Scores) -> None:
        if not counts.any():
            raise MetricError(f"metric {name} has nothing to score: no pixel has a class")

    return corpus_metric(name, quantities, statistic, check)


def _of(name: str, labels: Array | None, scores: Array) -> Array:
    """Labels [n, H, W] that fit class scores [n, C, h, w]."""
    sizes = None if labels is None or labels.ndim != 3 else np.array(labels.shape[1:]) / np.array(scores.shape[2:])
    if labels is None or labels.dtype.kind not in "iu" or sizes is None or sizes[0] != sizes[1] or sizes[0] % 1:
        found = "none" if labels is None else f"{labels.dtype} of shape {list(labels.shape)}"
        raise MetricError(
            f"metric {name} needs an integer label per pixel, [n, {', '.join(map(str, scores.shape[2:]))}] or a "
            f"multiple of it, and found {found}"
        )
    return labels.astype(np.int64)


def _counts(name: str, scores: Array, labels: Array) -> Scores:
    """Per class the pixels in common and those in either, [2 C]."""
    classes, factor = len(scores), labels.shape[0] // scores.shape[1]
    guesses = scores.argmax(axis=0).repeat(factor, axis=0).repeat(factor, axis=1)
    counted = ~np.isin(labels, _UNLABELLED)
    truth, guess = labels[counted], guesses[counted]
    if truth.size and (truth.min() < 0 or truth.max() >= classes):
        raise MetricError(
            f"metric {name}: labels run from {truth.min()} to {truth.max()} and the model has 0 to {classes - 1}"
        )
    common = np.bincount(truth[truth == guess], minlength=classes)
    either = np.bincount(truth, minlength=classes) + np.bincount(guess, minlength=classes) - common
    return np.concatenate([common, either]).astype(np.float64)
