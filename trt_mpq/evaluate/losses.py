"""Losses that sensitivity metrics measure: how far a perturbed network is from right.

They need not be the task metric. A loss is smooth and per sample, which an accuracy or a rank correlation is not, so
small perturbations move it.

Class scores are ``[n, classes]``, or ``[n, ..., classes]`` with a classification per position (a tag per token, the
next token of a language model): then a sample's loss is the mean over its positions, so that a long sample counts no
more than a short one. Embeddings, regressions and everything else are judged by their distance to FP32: for embeddings
of length 1 the normalized square error is exactly twice 1 - cosine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trt_mpq.errors import DataError
from trt_mpq.runtime.base import Array

IGNORED = -100
"""Label of a position that does not count, torch's convention."""

_Losses = NDArray[np.float64]
_Outputs = Mapping[str, Array]


@dataclass(frozen=True)
class Loss:
    """A number per sample, smaller is better.

    Attributes:
        name: Spelling in reports, and the key under which an autograd runtime finds its own formula.
        per_sample: Losses [n] of a batch, of its network outputs in order, each ``[n, ...]``, its labels ``[n, ...]``
            and the FP32 network's outputs; the last two are None where there are none. It raises DataError if what it
            needs is missing or does not fit the outputs.
    """

    name: str
    per_sample: Callable[[_Outputs, Array | None, _Outputs | None], _Losses]


def loss_for(*, has_labels: bool, classification: bool) -> Loss:
    """The loss that fits a task: cross-entropy, KL to FP32 for unlabelled classes, else normalized MSE to FP32."""
    return LOSSES[("cross-entropy" if has_labels else "kl") if classification else "mse"]


def _cross_entropy(outputs: _Outputs, labels: Array | None, reference: _Outputs | None) -> _Losses:
    """Negative log-likelihood of the integer label under softmax of the first output ``[n, ..., classes]``.

    With positions it is the mean over those whose label is not -100, and 0 for a sample that has none.
    """
    scores = _class_scores(outputs)
    classes = _class_labels(from_one_hot(labels, scores.shape), scores.shape)
    positions = tuple(range(1, classes.ndim))
    counted = np.sum(classes != IGNORED, axis=positions)
    losses: _Losses = np.sum(label_losses(scores, classes), axis=positions) / np.maximum(counted, 1)
    return losses


def _kullback_leibler(outputs: _Outputs, labels: Array | None, reference: _Outputs | None) -> _Losses:
    """KL(softmax(reference) || softmax(output)) in nats, for the first output ``[n, ..., classes]``.

    With positions it is the mean over all of them, padding included where the samples are padded.
    At the reference point its value and gradient are zero and its Hessian is the Fisher information.
    """
    ours, theirs = _class_scores(outputs), _class_scores(_required(reference, "kl"))
    if ours.ndim == 2:
        return _divergences(ours, theirs)
    # One sample at a time: a language model's scores of a whole batch in float64 would not fit.
    return np.array([np.mean(_divergences(a, b)) for a, b in zip(ours, theirs, strict=True)])


def _normalized_mean_square(outputs: _Outputs, labels: Array | None, reference: _Outputs | None) -> _Losses:
    """Mean squared error to the reference over the reference's mean square, averaged over the outputs.

    Both means are over one sample's elements. Where a sample's reference is all zero the error is
    not normalized.
    """
    theirs = _required(reference, "mse")
    errors = [_normalized_error(value, theirs[name]) for name, value in outputs.items()]
    losses: _Losses = np.mean(errors, axis=0)
    return losses


LOSSES: Mapping[str, Loss] = {
    name: Loss(name, per_sample)
    for name, per_sample in (
        ("cross-entropy", _cross_entropy),
        ("kl", _kullback_leibler),
        ("mse", _normalized_mean_square),
    )
}
"""Every loss by its name."""


def log_softmax(scores: _Losses) -> _Losses:
    """Logarithm of softmax over the last axis, without overflow: float64 ``[..., classes]`` in and out."""
    shifted = scores - scores.max(axis=-1, keepdims=True)
    logarithms: _Losses = shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))
    return logarithms


def label_losses(scores: Array, labels: Array) -> _Losses:
    """Negative log-likelihood of every label, 0 where it is -100.

    Args:
        scores: Class scores ``[n, ..., classes]``.
        labels: Classes ``[n, ...]`` in 0..classes - 1, or -100.

    Returns:
        float64 array ``[n, ...]``.
    """
    if scores.ndim > 2:  # one sample at a time, as above
        return np.array([label_losses(own, classes) for own, classes in zip(scores, labels, strict=True)])
    counted = labels != IGNORED
    classes = np.where(counted, labels, 0).astype(np.int64)
    own = log_softmax(scores.astype(np.float64))[np.arange(len(classes)), classes]
    return np.where(counted, -own, 0.0)


def _divergences(ours: Array, theirs: Array) -> _Losses:
    log_q, log_p = log_softmax(ours.astype(np.float64)), log_softmax(theirs.astype(np.float64))
    return np.asarray(np.sum(np.exp(log_p) * (log_p - log_q), axis=-1))


def _class_scores(outputs: Mapping[str, Array]) -> Array:
    name, scores = next(iter(outputs.items()))
    if scores.ndim < 2:
        raise DataError(
            f"output {name!r} has shape {scores.shape}; a classification loss needs [samples, classes] or "
            "[samples, ..., classes]"
        )
    return scores


def from_one_hot(labels: Array | None, shape: tuple[int, ...]) -> Array | None:
    """Labels [n, ...] of one-hot ones, which have the `shape` [n, ..., C] of the scores; others as they are."""
    if labels is None or labels.shape != shape or labels.dtype.kind not in "fiub":
        return labels
    one_hot = ((labels == 0) | (labels == 1)).all() and (labels.sum(axis=-1) == 1).all()
    return np.asarray(labels.argmax(axis=-1)) if one_hot else labels


def _class_labels(labels: Array | None, shape: tuple[int, ...]) -> Array:
    wanted, classes = shape[:-1], shape[-1]
    if labels is None:
        raise DataError("cross-entropy needs labels and the data has none: use the loss kl or mse")
    if labels.shape != wanted or labels.dtype.kind not in "iu":
        needed = f"{wanted[0]} integer labels" if len(wanted) == 1 else f"integer labels of shape {wanted}"
        raise DataError(f"cross-entropy needs {needed}, got {labels.dtype} of shape {labels.shape}")
    known = labels[labels != IGNORED]
    if known.size and (known.min() < 0 or known.max() >= classes):
        raise DataError(f"labels must lie in 0..{classes - 1}, got {known.min()}..{known.max()}")
    return labels


def _required(reference: Mapping[str, Array] | None, loss: str) -> Mapping[str, Array]:
    if reference is None:
        raise DataError(f"the loss {loss} compares with FP32 outputs and got none")
    return reference


def _normalized_error(value: Array, reference: Array) -> _Losses:
    rows = np.atleast_1d(reference)
    theirs = rows.astype(np.float64).reshape(len(rows), -1)
    error = np.mean((value.reshape(theirs.shape) - theirs) ** 2, axis=1)
    power = np.mean(theirs**2, axis=1)
    relative: _Losses = error / np.where(power > 0, power, 1.0)
    return relative
