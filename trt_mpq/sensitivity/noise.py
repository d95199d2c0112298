"""Noise: how much the loss grows when Gaussian noise disturbs one group.

Schaefer et al., "Mixed Precision Post Training Quantization of Neural Networks with Sensitivity
Guided Search" (2023), name the metric: noise scaled to the tensor's maximum magnitude. What the
paper leaves open is a parameter of `GaussianNoise`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from trt_mpq.errors import SettingsError
from trt_mpq.numerics import FloatArray
from trt_mpq.sensitivity.base import Feeds, Progress, SensitivityInputs
from trt_mpq.sensitivity.perturbation import NOISE_SCALE, SampleLoss, add_noise, noise_feed, weight_feed, weight_of
from trt_mpq.types import LayerGroup, Precision, Ranking

if TYPE_CHECKING:
    from trt_mpq.dataset import Batch
    from trt_mpq.runtime.base import Arrays

#: Distance of neighbouring codes at the largest magnitude, relative to it.
RELATIVE_STEP: Mapping[Precision, float] = {
    Precision.INT8: 1.0 / 127.0,
    Precision.INT4: 1.0 / 7.0,
    Precision.FP8: 2.0**-4,
}


@dataclass(frozen=True)
class GaussianNoise:
    """Score = mean loss with noise on one group - mean loss without; signed, it may be negative.

    Weight and quantized inputs of the group get noise together, of standard deviation
    ``amplitude * relative_step[precision] * maximum magnitude``. Trials come in antithetic pairs, the
    second with the first one's noise negated, which cancels the first-order term of the loss and with
    it most of the variance. Every precision sees the same noise, scaled.

    Args:
        amplitude: Noise per quantization step.
        trials: Noise draws to average over.
        per_channel: Whether a weight's magnitude is taken per output channel, as its scales are, or
            over the whole tensor. Activations have one magnitude, the one seen in calibration.
        relative_step: Quantization step relative to the maximum magnitude, per precision.
        rows: Distinct noise rows per activation; sample i takes row ``i % rows``.
    """

    amplitude: float = 1.0
    trials: int = 2
    per_channel: bool = True
    relative_step: Mapping[Precision, float] = field(default_factory=lambda: RELATIVE_STEP)
    rows: int = 16

    name: ClassVar[str] = "noise"

    def __post_init__(self) -> None:
        if self.trials < 1 or self.rows < 1 or not self.amplitude > 0:
            raise SettingsError("noise sensitivity needs amplitude, trials and rows above zero")

    def rank(self, inputs: SensitivityInputs, progress: Progress | None = None) -> Ranking:
        """Run the samples once per group, allowed precision and trial, and once undisturbed."""
        loss = SampleLoss(inputs)
        elements = loss.elements()
        total = self.trials * sum(len(_allowed(inputs, group)) for group in inputs.grouping.groups)
        growth: dict[tuple[str, Precision], float] = {}
        done = 0
        for group in inputs.grouping.groups:
            for precision, value in self._growth(inputs, group, loss, elements):
                growth[group.id, precision] = growth.get((group.id, precision), 0.0) + value / self.trials
                done += 1
                if progress:
                    progress(done, total)
        return inputs.ranking(self.name, lambda group, p: growth[group.id, p], (1 + total) * loss.samples)

    def _growth(
        self, inputs: SensitivityInputs, group: LayerGroup, loss: SampleLoss, elements: Mapping[str, int]
    ) -> Iterator[tuple[Precision, float]]:
        """Loss growth of every allowed precision and trial."""
        precisions = _allowed(inputs, group)
        if not precisions:
            return
        session = inputs.runtime.load(add_noise(inputs.graph, group))
        for pair in range(0, self.trials, 2):
            noise = self._draw(inputs, group, pair, elements)
            for sign in (1.0, -1.0)[: self.trials - pair]:
                for precision in precisions:
                    scale = sign * self.amplitude * self.relative_step[precision]
                    yield precision, loss.mean(session, noise.feeds(scale)) - loss.baseline

    def _draw(
        self, inputs: SensitivityInputs, group: LayerGroup, pair: int, elements: Mapping[str, int]
    ) -> _GroupNoise:
        generator = np.random.default_rng((inputs.seed, group.index, pair))
        weight = weight_of(inputs.graph, group)
        spread = _magnitude(weight, group.weight.axis if self.per_channel else None)
        rows = {
            noise_feed(group, number): generator.standard_normal((self.rows, elements[read.tensor]), np.float32)
            * np.float32(inputs.ranges.tensors[read.tensor].magnitude)
            for number, read in enumerate(group.inputs)
        }
        return _GroupNoise(
            weight_feed(group), weight, spread * generator.standard_normal(weight.shape, np.float32), rows
        )


@dataclass(frozen=True)
class _GroupNoise:
    """Noise of relative size 1 for a group: of its weight, and rows of noise per input."""

    weight_name: str
    weight: FloatArray
    weight_noise: FloatArray
    rows: Mapping[str, FloatArray]

    def feeds(self, scale: float) -> Feeds:
        """The inputs that add the noise times `scale`."""
        fixed = {
            self.weight_name: self.weight + np.float32(scale) * self.weight_noise,
            NOISE_SCALE: np.asarray(scale, np.float32),
        }

        def of_batch(batch: Batch) -> Arrays:
            samples = np.arange(batch.start, batch.start + batch.size)
            return fixed | {name: rows[samples % len(rows)] for name, rows in self.rows.items()}

        return of_batch


def _allowed(inputs: SensitivityInputs, group: LayerGroup) -> tuple[Precision, ...]:
    return tuple(precision for precision in inputs.candidates if group.allows(precision))


def _magnitude(weight: FloatArray, axis: int | None) -> FloatArray:
    """Largest magnitude per channel of `axis` or overall, in a shape that broadcasts to `weight`."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    magnitude: FloatArray = np.max(np.abs(weight), axis=others, keepdims=True)
    return magnitude
