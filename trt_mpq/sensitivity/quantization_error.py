"""Quantization error: how far a group's quantized tensors are from their originals.

Schaefer et al., "Mixed Precision Post Training Quantization of Neural Networks with Sensitivity
Guided Search" (2023), name the metric; the formula below is our reading of it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trt_mpq.errors import CalibrationError
from trt_mpq.graph.edit import constant_array
from trt_mpq.numerics import FloatArray, activation_scale, fake_quantize_activation
from trt_mpq.runtime.base import with_outputs
from trt_mpq.sensitivity.base import SensitivityInputs
from trt_mpq.types import Grouping, LayerGroup, Precision, Progress, Ranges, Ranking

_Key = tuple[str, Precision]


@dataclass(frozen=True)
class QuantizationError:
    """Score = sum over the weights and the quantized inputs of ``RMSE(quantized, original) / max |original|``.

    A weight counts with the scales it is deployed with (one per output channel), an activation
    with its calibrated scale; its maximum is the magnitude seen in calibration. A tensor that is all
    zero adds nothing. Several weights of a group count as one tensor, side by side. Looking at tensors only,
    the metric cannot tell whether the network minds.

    Args:
        weights: Whether the weights' term counts.
        activations: Whether the inputs' terms count; without them nothing is run.
    """

    weights: bool = True
    activations: bool = True

    name: ClassVar[str] = "quantization-error"

    def rank(self, inputs: SensitivityInputs, progress: Progress | None = None) -> Ranking:
        """Quantize every weight once and every activation on the samples, one batch in memory at a time."""
        activations = _ActivationErrors(inputs) if self.activations else None
        if activations is not None:
            activations.observe(inputs, progress)

        def score(group: LayerGroup, precision: Precision) -> float:
            total = _weight_error(inputs, group, precision) if self.weights else 0.0
            if activations is not None:
                tensors = dict.fromkeys(read.tensor for read in group.inputs if precision.spec.reads(read.role))
                total += sum(activations.relative(tensor, precision) for tensor in tensors)
            return total

        return inputs.ranking(self.name, score, forward_passes=activations.samples if activations else 0)


class _ActivationErrors:
    """Running sums of squared errors, per tensor and precision, in float64."""

    def __init__(self, inputs: SensitivityInputs) -> None:
        self.samples = 0
        self._ranges, self._top = inputs.network.ranges, inputs.network.grouping.top
        self._amax = _needed_amax(inputs.network.grouping, inputs.network.ranges, inputs.candidates)
        self._squares: dict[_Key, float] = defaultdict(float)
        self._elements = dict.fromkeys((tensor for tensor, _ in self._amax), 0)

    def observe(self, inputs: SensitivityInputs, progress: Progress | None) -> None:
        """Run the samples and add up the errors of every needed tensor."""
        if not self._amax:
            return
        session = inputs.runtime.load(with_outputs(inputs.network.graph, tuple(self._elements)))
        for chunk in inputs.chunks():
            self._add(chunk.run(session))
            self.samples = chunk.end
            if progress:
                progress(chunk.end, inputs.sample_count)

    def relative(self, tensor: str, precision: Precision) -> float:
        """RMSE over the largest magnitude of `tensor`."""
        magnitude = self._ranges.tensors[tensor].magnitude
        if magnitude == 0.0:
            return 0.0
        mean_square = self._squares[tensor, precision] / self._elements[tensor]
        return float(np.sqrt(mean_square)) / magnitude

    def _add(self, activations: dict[str, FloatArray]) -> None:
        for (tensor, precision), amax in self._amax.items():
            values = activations[tensor]
            error = fake_quantize_activation(values, activation_scale(amax, precision, self._top), precision) - values
            self._squares[tensor, precision] += float(np.sum(error**2, dtype=np.float64))
        for tensor in self._elements:
            self._elements[tensor] += activations[tensor].size


def _needed_amax(grouping: Grouping, ranges: Ranges, candidates: tuple[Precision, ...]) -> dict[_Key, float]:
    reads = (
        (r.tensor, p)
        for g in grouping.groups
        for r in g.inputs
        for p in candidates
        if g.allows(p) and p.spec.reads(r.role)
    )
    return {key: _amax(ranges, *key) for key in reads}


def _amax(ranges: Ranges, tensor: str, precision: Precision) -> float:
    observed = ranges.tensors.get(tensor)
    if observed is None or precision not in observed.amax:
        raise CalibrationError(f"tensor {tensor!r} has no {precision} range: calibrate again with {precision}")
    return observed.amax[precision]


def _weight_error(inputs: SensitivityInputs, group: LayerGroup, precision: Precision) -> float:
    """Relative error of the group's weights as one tensor; 0 without any."""
    constants = (inputs.network.graph.graph.initializers[weight.name] for weight in group.weights)
    magnitude = max((float(np.abs(constant_array(constant)).max()) for constant in constants), default=0.0)
    if magnitude == 0.0:
        return 0.0
    return float(np.sqrt(inputs.squared_weight_error(group, precision) / group.weight_elements)) / magnitude
