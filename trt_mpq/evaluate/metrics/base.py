"""What a metric is, and the accumulator of those that keep a few numbers per sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trt_mpq.errors import MetricError
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.types import Score, TensorSpec

Scores = NDArray[np.float64]
"""What a metric keeps of samples: scores [n], or several numbers per sample [n, k]."""
PerSample = Callable[[Arrays, Array | None, Arrays | None], Scores]
"""Numbers of a batch from its outputs, its labels and FP32's outputs; raises MetricError."""


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

    def result(self, order: NDArray[np.intp] | None = None) -> Score:
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
        decode: How outputs become boxes or texts, if it compares such.
    """

    name: str
    needs_labels: bool
    needs_reference: bool
    accumulator: Callable[[], Accumulator]
    of_classes: bool = False
    in_order: bool = False
    bounds: tuple[float, float] | None = None
    statistic: Callable[[Scores], float] | None = None
    decode: str | None = None


class SampleAccumulator:
    """Keeps a few numbers per sample, nothing else, and makes one score of them all.

    Args:
        name: The metric, for messages.
        measure: Numbers [n] or [n, k] of a batch.
        score: The score of the numbers of n >= 1 samples; raises MetricError if they have none.
    """

    def __init__(self, name: str, measure: PerSample, score: Callable[[Scores], Score]) -> None:
        self._name, self._measure, self._score = name, measure, score
        self._parts: list[Scores] = []

    @property
    def numbers(self) -> Scores | None:
        """Numbers of the samples so far; None before the first."""
        return np.concatenate(self._parts) if self._parts else None

    def add(self, outputs: Arrays, labels: Array | None, reference: Arrays | None) -> None:
        """Keep the numbers of a batch."""
        self._parts.append(self._measure(outputs, labels, reference))

    def result(self, order: NDArray[np.intp] | None = None) -> Score:
        """The score, of numbers in the order of the data."""
        numbers = self.numbers
        if numbers is None:
            raise MetricError(f"metric {self._name} has no sample to score: provide evaluation data")
        return self._score(numbers if order is None else numbers[order])


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
        name, needs_labels, not needs_labels, lambda: SampleAccumulator(name, score, score_from_samples), of_classes,
        bounds=bounds, statistic=_mean,
    )  # fmt: skip


def _mean(scores: Scores) -> float:
    return float(scores.mean())


def score_from_samples(scores: Scores) -> Score:
    """Mean and standard error (sample standard deviation / sqrt(n); None for one sample) of scores [n], n >= 1."""
    n = len(scores)
    stderr = float(scores.std(ddof=1) / np.sqrt(n)) if n > 1 else None
    return Score(float(scores.mean()), stderr, n)


def single_output(metric: str, outputs: tuple[TensorSpec, ...]) -> TensorSpec:
    """The model's only output; raises MetricError if it has several."""
    if len(outputs) != 1:
        raise MetricError(
            f"metric {metric} scores one output and the model has {len(outputs)} "
            f"({', '.join(spec.name for spec in outputs)}): name the one that counts with --outputs, or write "
            "a metric of your own, module:function"
        )
    return outputs[0]
