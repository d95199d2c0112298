"""Fisher: the error that quantizing a group puts on its outputs, weighted by how much the loss minds it there.

Model Optimizer's AutoQuantize scores layers so: squared gradient times squared output error, the Fisher information
in place of the Hessian in the second-order term of the loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from trt_mpq.emit import Emitter
from trt_mpq.errors import SettingsError
from trt_mpq.runtime.base import Arrays
from trt_mpq.runtime.torch_gradients import TorchGradients
from trt_mpq.sensitivity.base import SensitivityInputs
from trt_mpq.sensitivity.perturbation import apart
from trt_mpq.types import Precision, PrecisionPlan, Progress, Ranges, Ranking


@dataclass(frozen=True)
class FisherError:
    """Score = mean over samples of the sum over a group's outputs of ``(dL/dy)^2 (y_q - y)^2``.

    ``y`` are the group's outputs in the FP32 network, ``y_q`` what the quantized group makes of the same inputs. All
    groups are scored by one forward and one backward pass, and by running each of them once per precision: the cost
    does not grow with the number of groups. What ``L`` is without labels, see `torch_gradients`. The score takes
    errors to be independent and small; an error that all samples share, such as a shifted mean, is underrated.

    Args:
        block: Samples in memory at once, at most.
    """

    block: int = 16

    name: ClassVar[str] = "fisher"

    def __post_init__(self) -> None:
        if self.block < 1:
            raise SettingsError("fisher sensitivity needs a block above zero")

    def rank(self, inputs: SensitivityInputs, progress: Progress | None = None) -> Ranking:
        """Differentiate once per batch and run every group apart, once per precision.

        Raises:
            MissingDependencyError: torch is not installed.
            UnsupportedByTorch: An operator has no torch formula.
        """
        network, reads = apart(inputs.network.graph, inputs.groups)
        writes = tuple(dict.fromkeys(name for group in inputs.groups for name in group.writes))
        gradients = TorchGradients(
            inputs.network.graph, (*reads, *writes), inputs.loss.name, inputs.samples.output_axes
        )
        emitter = Emitter(network, inputs.network.grouping, _ranges_of(inputs.network.ranges, reads))
        errors = [_OutputErrors(inputs, emitter, precision) for precision in inputs.candidates]
        for chunk in inputs.chunks(self.block):
            start = chunk.batch.start
            generators = [np.random.default_rng((inputs.seed, start + i)) for i in range(chunk.batch.size)]
            values, slopes = gradients.run(chunk.feeds, chunk.batch.labels, generators, writes)
            feeds = chunk.feeds | {given: values[name] for name, given in reads.items()}
            for error in errors:
                error.add(feeds, values, slopes)
            if progress:
                progress(chunk.end, inputs.sample_count)
        sums = {(group, error.precision): total for error in errors for group, total in error.sums.items()}
        samples = inputs.sample_count
        return inputs.ranking(
            self.name,
            lambda group, precision: sums[group.id, precision] / samples,
            samples * (3.0 + len(inputs.candidates)),
        )


class _OutputErrors:
    """Weighted squared errors of every group that allows a precision, summed over samples."""

    def __init__(self, inputs: SensitivityInputs, emitter: Emitter, precision: Precision) -> None:
        self.precision = precision
        self._groups = tuple(group for group in inputs.groups if group.allows(precision))
        self.sums = dict.fromkeys((group.id for group in self._groups), 0.0)
        plan = PrecisionPlan.uniform(inputs.network.grouping.groups, precision, Precision.FP32)
        self._session = inputs.runtime.load(emitter.reference(plan))

    def add(self, feeds: Arrays, values: Arrays, slopes: Arrays) -> None:
        """Add a batch; `values` and `slopes` hold every tensor that groups write."""
        outputs = self._session.run(feeds)
        for group in self._groups:
            for name in group.writes:
                change = slopes[name] * (outputs[name] - values[name])
                self.sums[group.id] += float(np.sum(change**2, dtype=np.float64))


def _ranges_of(ranges: Ranges, reads: Mapping[str, str]) -> Ranges:
    """`ranges`, which also hold under the names in `apart`."""
    again = {given: ranges.tensors[name] for name, given in reads.items() if name in ranges.tensors}
    return replace(ranges, tensors={**ranges.tensors, **again})
