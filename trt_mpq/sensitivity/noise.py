"""Noise: how much the loss grows when Gaussian noise disturbs one group.

Schaefer et al., "Mixed Precision Post Training Quantization of Neural Networks with Sensitivity
Guided Search" (2023), name the metric: noise scaled to the tensor's maximum magnitude. What the
paper leaves open is a parameter of `GaussianNoise`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from trt_mpq.errors import SettingsError
from trt_mpq.numerics import FloatArray
from trt_mpq.sensitivity.base import SensitivityInputs, watched
from trt_mpq.sensitivity.perturbation import Case, SampleLoss, add_noise
from trt_mpq.sensitivity.prefix import Prefix
from trt_mpq.types import LayerGroup, Precision, Progress, Ranking
from trt_mpq.workers.threads import side_by_side

if TYPE_CHECKING:
    from trt_mpq.runtime.base import Arrays

_Growths = tuple[dict[Precision, float], float]
"""Loss growth of one group per allowed precision, summed over samples and trials, and what was run for each."""


@dataclass(frozen=True)
class GaussianNoise:
    """Score = mean loss with noise on one group - mean loss without; signed, it may be negative.

    Weights and quantized inputs of the group get noise together, of standard deviation
    ``noise_amplitude * codes.step * maximum magnitude``. Every sample has its own activation
    noise and every block of samples its own weight noise, so that averaging over samples also averages
    over noise. Trials come in antithetic pairs, the second with the first one's noise negated, which
    cancels the first-order term of the loss and with it most of the variance. Every precision sees the
    same noise, scaled.

    Args:
        noise_amplitude: Noise per quantization step.
        trials: Noise draws to average over.
        per_channel: Whether a weight's magnitude is taken per output channel, as its scales are, or
            over the whole tensor. Depthwise weights need the former: on MobileNetV1 at INT4 the ranking's
            Kendall tau with the loss of really quantizing each group is 0.57, with the latter -0.05.
            Activations have one magnitude, the one seen in calibration.
        block: Samples that share a draw of weight noise.
    """

    noise_amplitude: float = 1.0
    trials: int = 2
    per_channel: bool = True
    block: int = 16

    name: ClassVar[str] = "noise"

    def __post_init__(self) -> None:
        if self.trials < 1 or self.block < 1 or not self.noise_amplitude > 0:
            raise SettingsError("noise sensitivity needs amplitude, trials and block above zero")

    def rank(self, inputs: SensitivityInputs, progress: Progress | None = None) -> Ranking:
        """Run the samples once per group, allowed precision and trial, and once undisturbed."""
        groups, samples = inputs.groups, inputs.sample_count
        growths = list(watched(inputs.spread(self._growths)(groups), len(groups), progress))
        growth = {
            (group.id, precision): total / self.trials / samples
            for group, (totals, _) in zip(groups, growths, strict=True)
            for precision, total in totals.items()
        }
        runs = sum(share * len(totals) for totals, share in growths)
        return inputs.ranking(
            self.name,
            lambda group, precision: growth[group.id, precision],
            # Beside them once undisturbed, and once on the way from group to group.
            samples * (2 + self.trials * runs),
        )

    def _growths(self, inputs: SensitivityInputs) -> Callable[[LayerGroup], _Growths]:
        loss = SampleLoss(inputs, self.block)
        groups = inputs.network.grouping.groups
        prefix = Prefix(inputs.network.graph, groups, inputs.runtime, loss.chunks, inputs.ways)
        return partial(self._growth, inputs, loss, prefix)

    def _growth(self, inputs: SensitivityInputs, loss: SampleLoss, prefix: Prefix, group: LayerGroup) -> _Growths:
        candidates = tuple(filter(group.allows, inputs.candidates))
        noise = _Noise(inputs, group, self.block, self.per_channel)
        rest = prefix.rest([group.id], noise.graph)

        def grown(numbered: tuple[int, Case]) -> dict[Precision, float]:
            number, case = numbered
            growth = dict.fromkeys(candidates, 0.0)
            for trial in range(0, self.trials, 2):
                drawn = noise.draw(case, trial)
                for sign in (1.0, -1.0)[: self.trials - trial]:
                    for precision in candidates:
                        feeds = noise.feeds(drawn, sign * self.noise_amplitude, precision)
                        growth[precision] += loss.growth(case, rest.run(number, case.chunk, feeds))
            return growth

        growths = list(side_by_side(grown, enumerate(loss.cases), rest.ways))
        return {p: sum(growth[p] for growth in growths) for p in candidates}, rest.share


class _Noise:
    """A group's noise; what a sample gets depends on the seed, the group, the trial and the sample."""

    def __init__(self, inputs: SensitivityInputs, group: LayerGroup, block: int, per_channel: bool) -> None:
        self.graph, self._weights, tensors = add_noise(inputs.network.graph, group)
        self._seed, self._block = (inputs.seed, group.index), block
        self._spreads = {
            name: _magnitude(self._weights[name], weight.axis if per_channel else None)
            for name, weight in zip(self._weights, group.weights, strict=True)
        }
        ranges = inputs.network.ranges.tensors
        self._inputs = {name: (tensor, np.float32(ranges[tensor].magnitude)) for tensor, name in tensors.items()}

    def draw(self, case: Case, trial: int) -> Arrays:
        """By input, noise for samples that lie within one block; the standard deviation is the maximum magnitude."""
        start, rows = case.chunk.batch.start, case.chunk.rows
        weights = np.random.default_rng((*self._seed, trial, 0, start // self._block))
        samples = [np.random.default_rng((*self._seed, trial, 1, start + row)) for row in range(rows)]
        of_weights = {
            name: self._spreads[name] * weights.standard_normal(weight.shape, np.float32)
            for name, weight in self._weights.items()
        }
        of_inputs = {
            name: magnitude * _normal_rows(samples, case.elements[tensor])
            for name, (tensor, magnitude) in self._inputs.items()
        }
        return of_weights | of_inputs

    def feeds(self, drawn: Arrays, steps: float, precision: Precision) -> Arrays:
        """What the graph's own inputs are fed: weights and noise, of so many steps where `precision` quantizes."""
        step = np.float32(steps * precision.codes.step)
        kept = np.float32(0) if precision.spec.weight_only else step
        scaled = {name: (step if name in self._weights else kept) * noise for name, noise in drawn.items()}
        return scaled | {name: weight + scaled[name] for name, weight in self._weights.items()}


def _normal_rows(generators: Sequence[np.random.Generator], elements: int) -> FloatArray:
    rows = np.empty((len(generators), elements), np.float32)
    for row, generator in zip(rows, generators, strict=True):
        generator.standard_normal(dtype=np.float32, out=row)
    return rows


def _magnitude(weight: FloatArray, axis: int | None) -> FloatArray:
    """Largest magnitude per channel of `axis` or overall, in a shape that broadcasts to `weight`."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    magnitude: FloatArray = np.max(np.abs(weight), axis=others, keepdims=True)
    return magnitude
