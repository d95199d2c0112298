"""Hessian: how sharply the loss curves in a group's weight.

The trace is estimated by Hutchinson's method: for a random vector v of independent signs,
``E[v . H v] = trace(H)`` (Hutchinson, "A stochastic estimator of the trace of the influence matrix",
1989). The score follows HAWQ-V2 (Dong et al., 2020, section 3.2): average trace times the squared
norm of what quantization changes in the weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Protocol

import numpy as np

from trt_mpq.errors import MissingDependencyError, SettingsError
from trt_mpq.numerics import fake_quantize_weights
from trt_mpq.runtime.base import Arrays
from trt_mpq.runtime.torch_autograd import TorchLoss
from trt_mpq.runtime.torch_operators import UnsupportedByTorch
from trt_mpq.sensitivity.base import SensitivityInputs, watched
from trt_mpq.sensitivity.perturbation import Case, SampleLoss, open_weights, weight_feed, weight_of
from trt_mpq.types import LayerGroup, Precision, Progress, Ranking

ESTIMATORS = ("auto", "autograd", "forward")


@dataclass(frozen=True)
class Traces:
    """Estimated Hessian trace of the mean loss in the weights of each group that has any, and the price paid."""

    by_group: Mapping[str, float]
    forward_passes: float


class TraceEstimator(Protocol):
    """A way to estimate traces with Hutchinson's vectors."""

    def traces(self, inputs: SensitivityInputs, trials: int, progress: Progress | None = None) -> Traces:
        """Average over `trials` random vectors per block of samples."""


@dataclass(frozen=True)
class HessianTrace:
    """Score = average trace of the group's Hessian block x squared norm of its weights' quantization error.

    Every block of samples has its own random vectors, so that averaging over samples also averages over
    vectors; the error falls with the square root of samples x trials. On ResNet-20 with 128 samples the
    rankings of two seeds have Kendall tau 0.6 with 4 trials and 0.8 with 8. The score is signed: where
    the loss bends down the estimate is negative. Activations are not looked at: a group without a weight, such
    as attention, gets an infinite score, so that a search lowers it after all it knows something about.

    Args:
        trials: Random vectors per block of samples.
        weighted: Whether to multiply by the quantization error. Without, every precision gets the
            plain average trace.
        estimator: "autograd" (torch, exact derivatives), "forward" (the reference runtime only, second
            differences), or "auto": autograd where torch is installed and knows the graph's
            operators and the loss, else forward.
        step: Perturbation of the forward estimator, see `ForwardTrace`.
    """

    trials: int = 4
    weighted: bool = True
    estimator: str = "auto"
    step: float = 0.1

    name: ClassVar[str] = "hessian"

    def __post_init__(self) -> None:
        if self.estimator not in ESTIMATORS:
            raise SettingsError(f"unknown Hessian estimator {self.estimator!r}: choose one of {', '.join(ESTIMATORS)}")
        if self.trials < 1 or not self.step > 0:
            raise SettingsError("hessian sensitivity needs trials and step above zero")

    def rank(self, inputs: SensitivityInputs, progress: Progress | None = None) -> Ranking:
        """Estimate all traces and weight them with each precision's error."""
        traces = self._traces(inputs, progress)

        def score(group: LayerGroup, precision: Precision) -> float:
            if not group.weights:
                return math.inf
            average = traces.by_group[group.id] / group.weight_elements
            return average * (_squared_error(inputs, group, precision) if self.weighted else 1.0)

        return inputs.ranking(self.name, score, traces.forward_passes)

    def _traces(self, inputs: SensitivityInputs, progress: Progress | None) -> Traces:
        if not _weighted_groups(inputs):
            return Traces({}, 0.0)
        forward = ForwardTrace(self.step)
        if self.estimator == "forward":
            return forward.traces(inputs, self.trials, progress)
        try:
            return AutogradTrace().traces(inputs, self.trials, progress)
        except (MissingDependencyError, UnsupportedByTorch):
            if self.estimator == "autograd":
                raise
            return forward.traces(inputs, self.trials, progress)


@dataclass(frozen=True)
class AutogradTrace:
    """``v . H v`` by differentiating twice in torch, one product per group.

    One product with a vector over all weights would serve all groups, since the terms that couple them
    have mean zero. But it is not worth it: on ResNet-20 the coupling drowns the smaller blocks (rankings
    of two seeds have Kendall tau 0.0), while a product of its own costs a group no more than its share,
    because it only goes back to that group.

    Args:
        block: Samples that share random vectors.
        product_cost: What one group's Hessian-vector product costs in forward passes; measured on
            ResNet-20 (2.8 for the first group, falling to 0 for the last).
    """

    block: int = 16
    product_cost: float = 1.25

    def traces(self, inputs: SensitivityInputs, trials: int, progress: Progress | None = None) -> Traces:
        """One backward pass per batch, then one Hessian-vector product per trial and group."""
        groups = _weighted_groups(inputs)
        loss = TorchLoss(open_weights(inputs.network.graph, groups), inputs.loss.name)
        weights: Arrays = {
            weight_feed(w): weight_of(inputs.network.graph, w) for group in groups for w in group.weights
        }
        sums = dict.fromkeys(weights, 0.0)
        for chunk in inputs.chunks(self.block):
            at = chunk.batch.start // self.block
            directions = [
                {name: signs for group in groups for name, signs in _signs(inputs.seed, group, trial, at).items()}
                for trial in range(trials)
            ]
            batch = chunk.batch
            for forms in loss.quadratic_forms(chunk.feeds, batch.labels, batch.size, weights, directions):
                sums = {name: total + forms[name] for name, total in sums.items()}
            if progress:
                progress(chunk.end, inputs.sample_count)
        samples = inputs.sample_count
        traces = {group.id: sum(sums[weight_feed(w)] for w in group.weights) / samples / trials for group in groups}
        return Traces(traces, samples * (3.0 + self.product_cost * trials * len(weights)))


@dataclass(frozen=True)
class ForwardTrace:
    """``v . H v = (L(w + e v) - 2 L(w) + L(w - e v)) / e^2`` with ``e = step * RMS(w)``, up to order e^2.

    The step balances three errors. Float32 round-off of the losses is divided by e^2, and a large step
    leaves the region where the loss is a parabola (0.1 costs 3 % on a layer without kinks behind it).
    What decides is the Relu: a finite step sees the kinks it crosses, derivatives do not, and few
    crossings mean a large variance, of order 1 / e. On ResNet-20 the ranking's Kendall tau with autograd
    is 0.44 at a step of 0.01, 0.6 at 0.03, 0.7 at 0.1.

    Args:
        step: Perturbation relative to the weight's root mean square.
        block: Samples that share random vectors.
    """

    step: float = 0.1
    block: int = 16

    def traces(self, inputs: SensitivityInputs, trials: int, progress: Progress | None = None) -> Traces:
        """Two passes over the samples per group and trial."""
        groups = _weighted_groups(inputs)
        traces = watched(inputs.spread(partial(self._one_by_one, trials))(groups), len(groups), progress)
        by_group = {group.id: trace for group, trace in zip(groups, traces, strict=True)}
        return Traces(by_group, inputs.sample_count * (1.0 + 2.0 * trials * len(groups)))

    def _one_by_one(self, trials: int, inputs: SensitivityInputs) -> Callable[[LayerGroup], float]:
        return partial(self._trace, inputs, trials, SampleLoss(inputs, self.block))

    def _trace(self, inputs: SensitivityInputs, trials: int, loss: SampleLoss, group: LayerGroup) -> float:
        session = inputs.runtime.load(open_weights(inputs.network.graph, [group]))
        weights: Arrays = {weight_feed(weight): weight_of(inputs.network.graph, weight) for weight in group.weights}
        power = sum(float(np.sum(weight**2, dtype=np.float64)) for weight in weights.values())
        epsilon = np.float32(self.step * np.sqrt(power / group.weight_elements))
        if epsilon == 0.0:
            return 0.0

        def bend(case: Case, trial: int) -> float:
            signs = _signs(inputs.seed, group, trial, case.chunk.batch.start // self.block)
            sides = ({name: weights[name] + side * signs[name] for name in weights} for side in (epsilon, -epsilon))
            return sum(loss.growth(case, case.chunk.run(session, feeds)) for feeds in sides)

        bends = sum(bend(case, trial) for case in loss.cases for trial in range(trials))
        return bends / float(epsilon) ** 2 / trials / loss.samples


def _weighted_groups(inputs: SensitivityInputs) -> tuple[LayerGroup, ...]:
    """The groups to score that have a weight."""
    return tuple(group for group in inputs.groups if group.weights)


def _signs(seed: int, group: LayerGroup, trial: int, block: int) -> Arrays:
    """A Rademacher vector: -1 or 1 with equal probability, in the shapes of the group's weights, by `weight_feed`."""
    random = np.random.default_rng((seed, group.index, trial, block))
    return {
        weight_feed(weight): (2 * random.integers(0, 2, weight.shape, np.int8) - 1).astype(np.float32)
        for weight in group.weights
    }


def _squared_error(inputs: SensitivityInputs, group: LayerGroup, precision: Precision) -> float:
    contents = ((weight_of(inputs.network.graph, weight), weight.axis) for weight in group.weights)
    errors = (fake_quantize_weights(c, axis, precision, inputs.network.grouping.top) - c for c, axis in contents)
    return sum(float(np.sum(error**2, dtype=np.float64)) for error in errors)
