"""Task metrics: how good a model's outputs are, per sample, where higher is better.

With labels a metric counts what is right (`top1`, `top5`). Without, it measures fidelity to the FP32
model (`agreement`, `cosine`, `kl`, `sqnr`), scaled so that identical outputs score exactly 1.0 and a
target such as 0.99 of the FP32 score keeps its meaning. Outputs with NaN count as wrong, or score 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trt_mpq.errors import MetricError
from trt_mpq.losses import log_softmax
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.types import Score, TensorSpec
from trt_mpq.user_metric import GatheringAccumulator, import_function, score_from_samples

Scores = NDArray[np.float64]
PerSample = Callable[[Arrays, Array | None, Arrays | None], Scores]

METRIC_NAMES = ("auto", "top1", "top5", "agreement", "cosine", "kl", "sqnr")
"""The metrics that come with the product, as spelled on the command line."""


class Accumulator(Protocol):
    """Collects the outputs of one pass over the data, batch by batch."""

    @property
    def scores(self) -> Scores | None:
        """Scores [samples so far], for paired tests between two models; None if there is no score per sample."""

    def add(self, outputs: Arrays, labels: Array | None, reference: Arrays | None) -> None:
        """Take a batch.

        Args:
            outputs: Output name to array [n, ...] of the model under test.
            labels: Labels [n, ...], or None.
            reference: Output name to array [n, ...] of the FP32 model, for metrics that need it.

        Raises:
            MetricError: The batch cannot be scored.
        """

    def result(self) -> Score:
        """The score of everything added; raises MetricError if there is none."""


@dataclass(frozen=True)
class TaskMetric:
    """A named way to score a model.

    Attributes:
        name: Spelling on the command line; `auto` is already resolved.
        needs_labels: Whether batches must carry labels.
        needs_reference: Whether the FP32 model's outputs are needed beside the model's own.
        accumulator: Makes a fresh accumulator for one pass over the data.
    """

    name: str
    needs_labels: bool
    needs_reference: bool
    accumulator: Callable[[], Accumulator]


class PerSampleAccumulator:
    """Keeps one score per sample, nothing else.

    Args:
        name: The metric, for messages.
        score: Computes the scores [n] of a batch.
    """

    def __init__(self, name: str, score: PerSample) -> None:
        self._name = name
        self._score = score
        self._parts: list[Scores] = []

    @property
    def scores(self) -> Scores:
        """Scores [samples so far]."""
        return np.concatenate(self._parts) if self._parts else np.empty(0)

    def add(self, outputs: Arrays, labels: Array | None, reference: Arrays | None) -> None:
        """Score a batch."""
        self._parts.append(self._score(outputs, labels, reference))

    def result(self) -> Score:
        """Mean score and its standard error."""
        if not self._parts:
            raise MetricError(f"metric {self._name} has no sample to score: provide evaluation data")
        return score_from_samples(self.scores)


def metric_from_name(name: str, *, has_labels: bool, outputs: tuple[TensorSpec, ...]) -> TaskMetric:
    """The metric called `name`.

    Args:
        name: One of `METRIC_NAMES`, or `module:function` for the user's own, which is called as
            ``function(outputs: dict[str, ndarray], labels: ndarray | None) -> ndarray[n] | float``
            with all n samples at once and returns one score per sample or one for all, higher is
            better; `module` is also looked for in the current directory.
        has_labels: Whether the evaluation data has labels.
        outputs: The model's outputs; dimension 0 of each is the batch.

    Raises:
        MetricError: The name is unknown, the user's function cannot be imported, or the metric does
            not fit the data or the outputs.
    """
    if ":" in name:
        function = import_function(name)
        return TaskMetric(name, False, False, lambda: GatheringAccumulator(name, function))
    if name == "auto":
        name = "top1" if has_labels and is_classifier(outputs) else "sqnr"
    if name in ("top1", "top5"):
        return _top_k(name, int(name[3:]), has_labels, outputs)
    if name not in _FIDELITY:
        raise MetricError(f"unknown metric {name!r}: choose {', '.join(METRIC_NAMES)} or module:function")
    if name in ("agreement", "kl"):
        for spec in outputs:
            _require_class_scores(name, spec)
    return TaskMetric(name, False, True, lambda: PerSampleAccumulator(name, _fidelity(name, _FIDELITY[name])))


def _top_k(name: str, k: int, has_labels: bool, outputs: tuple[TensorSpec, ...]) -> TaskMetric:
    if not has_labels:
        raise MetricError(
            f"metric {name} needs labels and the evaluation data has none: add `labels`, or choose a fidelity metric "
            f"({', '.join(_FIDELITY)})"
        )
    if len(outputs) != 1:
        raise MetricError(
            f"metric {name} scores one output and the model has {len(outputs)} "
            f"({', '.join(spec.name for spec in outputs)}): use module:function"
        )
    spec = outputs[0]
    _require_class_scores(name, spec)
    if isinstance(spec.shape[1], int) and spec.shape[1] <= k:
        raise MetricError(f"metric {name} is always 1 with the {spec.shape[1]} classes of {spec.name!r}: use top1")

    def score(batch: Arrays, labels: Array | None, reference: Arrays | None) -> Scores:
        logits = batch[spec.name]
        return correct_in_top_k(logits, _class_labels(labels, logits, name), k).astype(np.float64)

    return TaskMetric(name, True, False, lambda: PerSampleAccumulator(name, score))


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


def _class_labels(labels: Array | None, logits: Array, metric: str) -> NDArray[np.int64]:
    if labels is None or labels.dtype.kind not in "iu" or labels.shape != logits.shape[:1]:
        found = "none" if labels is None else f"{labels.dtype} of shape {labels.shape}"
        raise MetricError(
            f"metric {metric} needs one integer class label per sample, found {found}: use module:function"
        )
    classes = logits.shape[1]
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise MetricError(
            f"metric {metric}: labels run from {labels.min()} to {labels.max()} but the model has the classes 0 to "
            f"{classes - 1}: check that both number classes alike"
        )
    return labels.astype(np.int64)


def is_classifier(outputs: tuple[TensorSpec, ...]) -> bool:
    """Whether a model has one output, of class scores [N, C]."""
    return len(outputs) == 1 and _is_class_scores(outputs[0])


def _is_class_scores(spec: TensorSpec) -> bool:
    return len(spec.shape) == 2 and spec.shape[1] != 1


def _require_class_scores(metric: str, spec: TensorSpec) -> None:
    if not _is_class_scores(spec):
        raise MetricError(
            f"metric {metric} compares class scores [N, C] and output {spec.name!r} is {list(spec.shape)}: "
            "use sqnr, cosine or module:function"
        )


def _fidelity(metric: str, compare: Callable[[Scores, Scores], Scores]) -> PerSample:
    """Scores of a batch against FP32: `compare` per output, averaged over outputs."""

    def score(outputs: Arrays, labels: Array | None, reference: Arrays | None) -> Scores:
        if reference is None:
            raise MetricError(f"metric {metric} compares with FP32 outputs and was given none")
        per_output = [_compare(metric, name, outputs[name], reference[name], compare) for name in reference]
        return np.asarray(np.mean(per_output, axis=0))

    return score


def _compare(
    metric: str, name: str, output: Array, reference: Array, compare: Callable[[Scores, Scores], Scores]
) -> Scores:
    if output.shape != reference.shape or output.ndim == 0:
        raise MetricError(
            f"metric {metric}: output {name!r} is {output.shape} and FP32 gave {reference.shape}: outputs need one row "
            "per sample and a fixed size"
        )
    ours, theirs = (a.reshape(len(a), -1).astype(np.float64) for a in (output, reference))
    finite = np.isfinite(ours).all(axis=1) & np.isfinite(theirs).all(axis=1)
    scores: Scores = np.all(ours == theirs, axis=1).astype(np.float64)  # equal infinities are fidelity, NaN never is
    rows = finite & (scores == 0)
    scores[rows] = compare(ours[rows], theirs[rows])
    return scores


def _agreement(outputs: Scores, reference: Scores) -> Scores:
    """1 where both put the same class first."""
    return np.asarray(np.argmax(outputs, axis=1) == np.argmax(reference, axis=1)).astype(np.float64)


def _cosine(outputs: Scores, reference: Scores) -> Scores:
    """Cosine of the angle between the flattened outputs; 0 if one of them is zero."""
    norms = np.linalg.norm(outputs, axis=1) * np.linalg.norm(reference, axis=1)
    return np.asarray(np.clip(_ratio(np.sum(outputs * reference, axis=1), norms), -1.0, 1.0))


def _kl(outputs: Scores, reference: Scores) -> Scores:
    """exp(-KL(softmax(FP32) || softmax(outputs))), in (0, 1]."""
    log_p, log_q = log_softmax(reference), log_softmax(outputs)
    divergence = np.sum(np.exp(log_p) * (log_p - log_q), axis=1)
    return np.asarray(np.exp(-np.maximum(divergence, 0.0)))


def _sqnr(outputs: Scores, reference: Scores) -> Scores:
    """1 - noise power / signal power, not below 0: 0.9 is 10 dB, 0.99 is 20 dB, 0.999 is 30 dB."""
    noise = np.sum((outputs - reference) ** 2, axis=1)
    signal = np.sum(reference**2, axis=1)
    return np.where(signal > 0, np.maximum(1.0 - _ratio(noise, signal), 0.0), 0.0)


def _ratio(numerator: Scores, denominator: Scores) -> Scores:
    return np.asarray(np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0))


_FIDELITY: dict[str, Callable[[Scores, Scores], Scores]] = {
    "agreement": _agreement,
    "cosine": _cosine,
    "kl": _kl,
    "sqnr": _sqnr,
}
