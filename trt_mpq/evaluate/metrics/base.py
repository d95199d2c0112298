"""What a metric is, and the accumulator of those that are means over samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trt_mpq.errors import MetricError
from trt_mpq.evaluate.metrics.user import score_from_samples
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.types import Score, TensorSpec

Scores = NDArray[np.float64]
Order = NDArray[np.intp]
PerSample = Callable[[Arrays, Array | None, Arrays | None], Scores]
Statistic = Callable[[Scores], float]


class Accumulator(Protocol):
    """Collects the outputs of one pass over the data, batch by batch."""

    @property
    def numbers(self) -> Scores | None:
        """What is kept of each sample, in the order they were added: scores [n], numbers [n, k], or None for nothing.

        Paired tests compare two models by it.
        """

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

    def result(self, order: Order | None = None) -> Score:
        """The score of everything added, or MetricError.

        Args:
            order: Positions [n] among what was added that bring it into the order of the data, so that sums do not
                depend on the order of adding; None if it was added like this.
        """


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
        bounds: Least and largest score of a sample where the score is the mean over samples, else None.
        statistic: The score of what the accumulator keeps of samples, if it keeps anything.
    """

    name: str
    needs_labels: bool
    needs_reference: bool
    accumulator: Callable[[], Accumulator]
    of_classes: bool = False
    in_order: bool = False
    bounds: tuple[float, float] | None = None
    statistic: Statistic | None = None


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
    def numbers(self) -> Scores:
        """Scores [samples so far]."""
        return np.concatenate(self._parts) if self._parts else np.empty(0)

    def add(self, outputs: Arrays, labels: Array | None, reference: Arrays | None) -> None:
        """Score a batch."""
        self._parts.append(self._score(outputs, labels, reference))

    def result(self, order: Order | None = None) -> Score:
        """Mean score and its standard error."""
        if not self._parts:
            raise nothing_to_score(self._name)
        return score_from_samples(in_order(self.numbers, order))


def mean_metric(
    name: str,
    score: PerSample,
    *,
    needs_labels: bool,
    of_classes: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> TaskMetric:
    """The metric that is the mean of `score`, which is within `bounds`; it compares with FP32 or with labels."""
    return TaskMetric(
        name, needs_labels, not needs_labels, lambda: PerSampleAccumulator(name, score), of_classes, bounds=bounds,
        statistic=_mean,
    )  # fmt: skip


def _mean(scores: Scores) -> float:
    return float(scores.mean())


def in_order(numbers: Scores, order: Order | None) -> Scores:
    """`numbers` [n, ...] arranged by `order` [n], if there is one."""
    return numbers if order is None else numbers[order]


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
