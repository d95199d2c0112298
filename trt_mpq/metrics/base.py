"""What a metric is, and the accumulator of those that are means over samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trt_mpq.errors import MetricError
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.types import Score, TensorSpec
from trt_mpq.user_metric import score_from_samples

Scores = NDArray[np.float64]
PerSample = Callable[[Arrays, Array | None, Arrays | None], Scores]


class Accumulator(Protocol):
    """Collects the outputs of one pass over the data, batch by batch."""

    @property
    def scores(self) -> Scores | None:
        """Scores [samples so far], for paired tests between two models; None if there is no score per sample."""

    def add(self, outputs: Arrays, labels: Array | None, reference: Arrays | None) -> None:
        """Take a batch.

        Args:
            outputs: Output name to array [n, ...] of the model under test; [n, rows, ...] where a sample is several
                rows of the model's batch.
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
        of_classes: Whether it judges the first output as class scores [N, ..., C], so that cross-entropy and KL
            divergence describe the same task.
        in_order: Whether it must see the samples in the order of the data, all of one length.
    """

    name: str
    needs_labels: bool
    needs_reference: bool
    accumulator: Callable[[], Accumulator]
    of_classes: bool = False
    in_order: bool = False


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
            raise nothing_to_score(self._name)
        return score_from_samples(self.scores)


def nothing_to_score(metric: str) -> MetricError:
    """The error of a pass without samples."""
    return MetricError(f"metric {metric} has no sample to score: provide evaluation data")


def single_output(metric: str, outputs: tuple[TensorSpec, ...]) -> TensorSpec:
    """The model's only output; raises MetricError if it has several."""
    if len(outputs) != 1:
        raise MetricError(
            f"metric {metric} scores one output and the model has {len(outputs)} "
            f"({', '.join(spec.name for spec in outputs)}): use module:function"
        )
    return outputs[0]
