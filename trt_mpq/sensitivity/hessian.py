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
from typing import ClassVar

import numpy as np

from trt_mpq.errors import MissingDependencyError, SettingsError
from trt_mpq.runtime.base import Arrays
from trt_mpq.runtime.torch_autograd import TorchLoss
from trt_mpq.runtime.torch_operators import UnsupportedByTorch
from trt_mpq.sensitivity.base import SensitivityInputs, watched
from trt_mpq.sensitivity.perturbation import Case, SampleLoss, open_weights
from trt_mpq.types import LayerGroup, Precision, Progress, Ranking

_ESTIMATORS = ("auto", "autograd", "forward")
_BLOCK = 16
"""Samples that share random vectors."""
_PRODUCT_PASSES = 1.25
"""What one group's Hessian-vector product costs in forward passes; measured on ResNet-20 (2.8 for the first group,
falling to 0 for the last)."""


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
        step: Perturbation of the forward estimator, relative to the weight's root mean square.
    """

    trials: int = 4
    weighted: bool = True
    estimator: str = "auto"
    step: float = 0.1

    name: ClassVar[str] = "hessian"

    def __post_init__(self) -> None:
        if self.estimator not in _ESTIMATORS:
            raise SettingsError(f"unknown Hessian estimator {self.estimator!r}: choose one of {', '.join(_ESTIMATORS)}")
        if self.trials < 1 or not self.step > 0:
            raise SettingsError("hessian sensitivity needs trials and step above zero")

    def rank(self, inputs: SensitivityInputs, progress: Progress | None = None) -> Ranking:
        """Estimate all traces and weight them with each precision's error."""
        groups = tuple(group for group in inputs.groups if group.weights)
        traces, forward_passes = self._traces(inputs, groups, progress) if groups else ({}, 0.0)

        def score(group: LayerGroup, precision: Precision) -> float:
            if not group.weights:
                return math.inf
            average = traces[group.id] / group.weight_elements
            return average * (inputs.squared_weight_error(group, precision) if self.weighted else 1.0)

        return inputs.ranking(self.name, score, forward_passes)

    def _traces(
        self, inputs: SensitivityInputs, groups: tuple[LayerGroup, ...], progress: Progress | None
    ) -> tuple[Mapping[str, float], float]:
        """Hessian trace of the mean loss in the weights of each group, and its price in forward passes."""
        if self.estimator != "forward":
            try:
                return self._by_autograd(inputs, groups, progress)
            except (MissingDependencyError, UnsupportedByTorch):
                if self.estimator == "autograd":
                    raise
        return self._by_differences(inputs, groups, progress)

    def _by_autograd(
        self, inputs: SensitivityInputs, groups: tuple[LayerGroup, ...], progress: Progress | None
    ) -> tuple[Mapping[str, float], float]:
        """``v . H v`` by differentiating twice in torch: per batch once backward, then one product per trial and group.

        One product with a vector over all weights would serve all groups, since the terms that couple them
        have mean zero. But it is not worth it: on ResNet-20 the coupling drowns the smaller blocks (rankings
        of two seeds have Kendall tau 0.0), while a product of its own costs a group no more than its share,
        because it only goes back to that group.
        """
        opened, by_group = open_weights(inputs.network.graph, groups)
        weights: Arrays = {name: weight for own in by_group.values() for name, weight in own.items()}
        loss = TorchLoss(opened, inputs.loss.name, inputs.samples.output_axes)
        sums = dict.fromkeys(weights, 0.0)
        for chunk in inputs.chunks(_BLOCK):
            at = chunk.batch.start // _BLOCK
            directions = [
                {
                    name: signs
                    for group in groups
                    for name, signs in _signs(inputs.seed, group, by_group[group.id], trial, at).items()
                }
                for trial in range(self.trials)
            ]
            batch = chunk.batch
            for forms in loss.quadratic_forms(chunk.feeds, batch.labels, batch.size, weights, directions):
                sums = {name: total + forms[name] for name, total in sums.items()}
            if progress:
                progress(chunk.end, inputs.sample_count)
        samples = inputs.sample_count
        traces = {group: sum(sums[name] for name in own) / samples / self.trials for group, own in by_group.items()}
        return traces, samples * (3.0 + _PRODUCT_PASSES * self.trials * len(weights))

    def _by_differences(
        self, inputs: SensitivityInputs, groups: tuple[LayerGroup, ...], progress: Progress | None
    ) -> tuple[Mapping[str, float], float]:
        """``v . H v = (L(w + e v) - 2 L(w) + L(w - e v)) / e^2`` with ``e = step * RMS(w)``, up to order e^2.

        It takes two passes over the samples per group and trial. The step balances three errors. Float32 round-off of
        the losses is divided by e^2, and a large step leaves the region where the loss is a parabola (0.1 costs 3 % on
        a layer without kinks behind it). What decides is the Relu: a finite step sees the kinks it crosses, derivatives
        do not, and few crossings mean a large variance, of order 1 / e. On ResNet-20 the ranking's Kendall tau with
        autograd is 0.44 at a step of 0.01, 0.6 at 0.03, 0.7 at 0.1.
        """
        found = watched(inputs.spread(self._one_by_one)(groups), len(groups), progress)
        traces = {group.id: trace for group, trace in zip(groups, found, strict=True)}
        return traces, inputs.sample_count * (1.0 + 2.0 * self.trials * len(groups))

    def _one_by_one(self, inputs: SensitivityInputs) -> Callable[[LayerGroup], float]:
        return partial(self._difference, inputs, SampleLoss(inputs, _BLOCK))

    def _difference(self, inputs: SensitivityInputs, loss: SampleLoss, group: LayerGroup) -> float:
        """The trace of one group."""
        opened, by_group = open_weights(inputs.network.graph, [group])
        session, weights = inputs.runtime.load(opened), by_group[group.id]
        power = sum(float(np.sum(weight**2, dtype=np.float64)) for weight in weights.values())
        epsilon = np.float32(self.step * np.sqrt(power / group.weight_elements))
        if epsilon == 0.0:
            return 0.0

        def bend(case: Case, trial: int) -> float:
            signs = _signs(inputs.seed, group, weights, trial, case.chunk.batch.start // _BLOCK)
            sides = ({name: weights[name] + side * signs[name] for name in weights} for side in (epsilon, -epsilon))
            return sum(loss.growth(case, case.chunk.run(session, feeds)) for feeds in sides)

        bends = sum(bend(case, trial) for case in loss.cases for trial in range(self.trials))
        return bends / float(epsilon) ** 2 / self.trials / loss.samples


def _signs(seed: int, group: LayerGroup, weights: Arrays, trial: int, block: int) -> Arrays:
    """A Rademacher vector: -1 or 1 with equal probability, in the names and shapes of the group's weights."""
    random = np.random.default_rng((seed, group.index, trial, block))
    return {
        name: (2 * random.integers(0, 2, weight.shape, np.int8) - 1).astype(np.float32)
        for name, weight in weights.items()
    }
