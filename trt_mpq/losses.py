"""Losses that sensitivity metrics measure: how far a perturbed network is from right.

They need not be the task metric. A loss is smooth and per sample, which an accuracy is not, so small
perturbations move it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from trt_mpq.errors import DataError
from trt_mpq.runtime.base import Array

Losses = NDArray[np.float64]


class Loss(Protocol):
    """A number per sample, smaller is better."""

    @property
    def name(self) -> str:
        """Spelling in reports, and the key under which an autograd runtime finds its own formula."""

    def per_sample(
        self, outputs: Mapping[str, Array], labels: Array | None, reference: Mapping[str, Array] | None
    ) -> Losses:
        """Losses of a batch.

        Args:
            outputs: Network outputs in order, each ``[n, ...]``.
            labels: Labels ``[n]``, for losses that need them.
            reference: The FP32 network's outputs on the same batch, for losses that need them.

        Returns:
            float64 array ``[n]``.

        Raises:
            DataError: What the loss needs is missing or does not fit the outputs.
        """


@dataclass(frozen=True)
class CrossEntropy:
    """Negative log-likelihood of the integer label under softmax of the first output ``[n, classes]``."""

    name: ClassVar[str] = "cross-entropy"

    def per_sample(
        self, outputs: Mapping[str, Array], labels: Array | None, reference: Mapping[str, Array] | None
    ) -> Losses:
        """Losses of a batch; `reference` is not used."""
        log_probabilities = log_softmax(_class_scores(outputs))
        classes = _class_labels(labels, log_probabilities.shape)
        losses: Losses = -log_probabilities[np.arange(len(classes)), classes]
        return losses


@dataclass(frozen=True)
class KullbackLeibler:
    """KL(softmax(reference) || softmax(output)) in nats, for the first output ``[n, classes]``.

    At the reference point its value and gradient are zero and its Hessian is the Fisher information.
    """

    name: ClassVar[str] = "kl"

    def per_sample(
        self, outputs: Mapping[str, Array], labels: Array | None, reference: Mapping[str, Array] | None
    ) -> Losses:
        """Losses of a batch; `labels` are not used."""
        ours = log_softmax(_class_scores(outputs))
        theirs = log_softmax(_class_scores(_required(reference, self.name)))
        losses: Losses = np.sum(np.exp(theirs) * (theirs - ours), axis=1)
        return losses


@dataclass(frozen=True)
class NormalizedMeanSquare:
    """Mean squared error to the reference over the reference's mean square, averaged over the outputs.

    Both means are over one sample's elements. Where a sample's reference is all zero the error is
    not normalized.
    """

    name: ClassVar[str] = "mse"

    def per_sample(
        self, outputs: Mapping[str, Array], labels: Array | None, reference: Mapping[str, Array] | None
    ) -> Losses:
        """Losses of a batch; `labels` are not used."""
        theirs = _required(reference, self.name)
        errors = [_normalized_error(value, theirs[name]) for name, value in outputs.items()]
        losses: Losses = np.mean(errors, axis=0)
        return losses


def loss_for(*, has_labels: bool, classification: bool) -> Loss:
    """The loss that fits a task: cross-entropy, KL to FP32 for unlabelled classes, else normalized MSE to FP32."""
    if not classification:
        return NormalizedMeanSquare()
    return CrossEntropy() if has_labels else KullbackLeibler()


def log_softmax(scores: Losses) -> Losses:
    """Logarithm of softmax over axis 1, without overflow: float64 ``[n, classes]`` in and out."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    logarithms: Losses = shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
    return logarithms


def _class_scores(outputs: Mapping[str, Array]) -> Losses:
    name, scores = next(iter(outputs.items()))
    if scores.ndim != 2:
        raise DataError(f"output {name!r} has shape {scores.shape}; a classification loss needs [samples, classes]")
    return scores.astype(np.float64)


def _class_labels(labels: Array | None, shape: tuple[int, ...]) -> Array:
    samples, classes = shape
    if labels is None:
        raise DataError("cross-entropy needs labels and the data has none: use the loss kl or mse")
    if labels.shape != (samples,) or labels.dtype.kind not in "iu":
        raise DataError(f"cross-entropy needs {samples} integer labels, got {labels.dtype} of shape {labels.shape}")
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(f"labels must lie in 0..{classes - 1}, got {labels.min()}..{labels.max()}")
    return labels


def _required(reference: Mapping[str, Array] | None, loss: str) -> Mapping[str, Array]:
    if reference is None:
        raise DataError(f"the loss {loss} compares with FP32 outputs and got none")
    return reference


def _normalized_error(value: Array, reference: Array) -> Losses:
    theirs = reference.astype(np.float64).reshape(len(reference), -1)
    error = np.mean((value.reshape(theirs.shape) - theirs) ** 2, axis=1)
    power = np.mean(theirs**2, axis=1)
    relative: Losses = error / np.where(power > 0, power, 1.0)
    return relative
