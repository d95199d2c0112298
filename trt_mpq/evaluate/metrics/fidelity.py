"""Fidelity: how close a model's outputs are to those of FP32, per sample; 1.0 where they are identical."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trt_mpq.errors import MetricError
from trt_mpq.evaluate.losses import log_softmax
from trt_mpq.evaluate.metrics.base import PerSample, Scores, TaskMetric, mean_metric
from trt_mpq.evaluate.metrics.classes import require_class_scores
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.types import TensorSpec

_OF_CLASSES = ("agreement", "kl")
"""Those that compare class scores."""


def fidelity(name: str, outputs: tuple[TensorSpec, ...]) -> TaskMetric:
    """The metric called `name`, a key of `FIDELITY`; raises MetricError if it does not fit the outputs."""
    if name in _OF_CLASSES:
        for spec in outputs:
            require_class_scores(name, spec)
    score = _fidelity(name, FIDELITY[name])
    return mean_metric(
        name,
        score,
        needs_labels=False,
        of_classes=name in _OF_CLASSES and len(outputs) == 1,
        bounds=(-1.0, 1.0) if name == "cosine" else (0.0, 1.0),
    )


def _fidelity(metric: str, compare: Callable[[Scores, Scores], Scores]) -> PerSample:
    """Scores of a batch against FP32: `compare` per output, averaged over outputs.

    An output of another size than FP32's is no match: 0 for all samples of the batch.
    """

    def score(outputs: Arrays, labels: Array | None, reference: Arrays | None) -> Scores:
        if reference is None:
            raise MetricError(f"metric {metric} compares with FP32 outputs and was given none")
        per_output = [_compare(outputs[name], reference[name], compare) for name in reference]
        return np.asarray(np.mean(per_output, axis=0))

    return score


def _compare(output: Array, reference: Array, compare: Callable[[Scores, Scores], Scores]) -> Scores:
    rows_of = [np.atleast_1d(value) for value in (output, reference)]
    if output.shape != reference.shape:
        return np.zeros(len(rows_of[1]))
    ours, theirs = (value.reshape(len(value), -1).astype(np.float64) for value in rows_of)
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


FIDELITY: dict[str, Callable[[Scores, Scores], Scores]] = {
    "agreement": _agreement,
    "cosine": _cosine,
    "kl": _kl,
    "sqnr": _sqnr,
}
