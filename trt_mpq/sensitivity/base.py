"""What a sensitivity metric is given and what it must return."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from trt_mpq.dataset import Samples
from trt_mpq.dataset.chunks import Chunk, chunks_by_length, most_chunks
from trt_mpq.graph.edit import constant_array
from trt_mpq.numerics import quantize_weight
from trt_mpq.types import LayerGroup, Precision, Progress, Ranking

if TYPE_CHECKING:
    from trt_mpq.emit.network import Network
    from trt_mpq.engine.plan_engines import PlanEngines
    from trt_mpq.evaluate.losses import Loss
    from trt_mpq.runtime.base import Runtime


USUAL_SAMPLES = 256
"""Samples that a metric uses unless it is told how many or knows better."""

_P = TypeVar("_P")
_R = TypeVar("_R")

Distribute = Callable[[Callable[["SensitivityInputs"], Any]], Callable[[Sequence[Any]], Iterator[Any]]]
"""How workers do what `SensitivityInputs.spread` is asked for."""


@dataclass(frozen=True)
class SensitivityInputs:
    """Everything a metric may look at.

    Attributes:
        network: The prepared FP32 network with its groups and the ranges of every activation they quantize.
        candidates: Quantized precisions to score.
        samples: Calibration data; labels only if `loss` needs them.
        sample_limit: How many samples to use, from the first on; None leaves it to the metric, see `USUAL_SAMPLES`.
        loss: What a perturbation is judged by.
        runtime: Runs FP32 graphs.
        batch: Samples per run, at most. It changes speed and memory, not results. A network with a fixed batch
            dimension overrules it.
        seed: Source of all randomness.
        distribute: Has parts of a metric done by workers, see `spread`; None where this process does them.
        engines: Builds and runs engines of plans; None where no metric asks for them.
    """

    network: Network
    candidates: tuple[Precision, ...]
    samples: Samples
    sample_limit: int | None
    loss: Loss
    runtime: Runtime
    batch: int
    seed: int
    distribute: Distribute | None = None
    engines: PlanEngines | None = None

    def spread(
        self, initializer: Callable[[SensitivityInputs], Callable[[_P], _R]]
    ) -> Callable[[Sequence[_P]], Iterator[_R]]:
        """What ``initializer(inputs)`` makes of each of many parts, in their order, in this process or in workers.

        In a worker, `initializer` gets inputs equal to those that the run made: what a metric changes in them, it
        changes inside. It is picklable, and parts and results are small. So every metric whose cost grows with the
        groups profits from workers, and none knows of them.
        """
        return self.distribute(initializer) if self.distribute else partial(map, initializer(self))

    @property
    def groups(self) -> tuple[LayerGroup, ...]:
        """The groups that may run in some candidate precision, in network order."""
        return tuple(group for group in self.network.grouping.groups if any(map(group.allows, self.candidates)))

    @property
    def sample_count(self) -> int:
        """How many samples are used."""
        return min(self.sample_limit or USUAL_SAMPLES, self.samples.count)

    @property
    def ways(self) -> int:
        """How many chunks are run side by side."""
        return min(self.runtime.ways, most_chunks(self.samples.take(self.sample_count), self.batch))

    def chunks(self, block: int | None = None) -> Iterator[Chunk]:
        """The samples to use, cut to their length where the data tells it, `batch` at a time at most.

        No chunk reaches across a multiple of `block` samples, unless the network fixes its batch dimension.
        """
        return chunks_by_length(self.samples.take(self.sample_count), self.batch, block, tapering=block is None)

    def squared_weight_error(self, group: LayerGroup, precision: Precision) -> float:
        """What quantization changes in the group's weights, squared and summed over their elements."""
        constants, top = self.network.graph.graph.initializers, self.network.grouping.top
        contents = [(constant_array(constants[weight.name]), weight.axis) for weight in group.weights]
        largest = max((float(np.abs(content).max(initial=0.0)) for content, _ in contents), default=0.0)
        errors = (
            quantize_weight(content, axis, precision, top, largest=largest).values - content
            for content, axis in contents
        )
        return sum(float(np.sum(error**2, dtype=np.float64)) for error in errors)

    def ranking(
        self, metric: str, score: Callable[[LayerGroup, Precision], float], forward_passes: float = 0.0
    ) -> Ranking:
        """A ranking that asks `score` for every group in every candidate precision it may run in."""
        scores = {
            precision: {
                group.id: score(group, precision) for group in self.network.grouping.groups if group.allows(precision)
            }
            for precision in self.candidates
        }
        order = tuple(group.id for group in self.network.grouping.groups)
        return Ranking(metric, self.seed, order, scores, forward_passes)


def watched(results: Iterator[_R], total: int, progress: Progress | None, before: int = 0) -> Iterator[_R]:
    """`results`, telling `progress` of each of them; `before` of the `total` were done earlier."""
    for done, result in enumerate(results, start=before + 1):
        yield result
        if progress:
            progress(done, total)


class SensitivityMetric(Protocol):
    """Says how much each group suffers from each precision, relative to the other groups."""

    @property
    def name(self) -> str:
        """Spelling on the command line."""

    def rank(self, inputs: SensitivityInputs, progress: Progress | None = None) -> Ranking:
        """Score every group in every candidate precision it allows; larger is more sensitive.

        The result depends on `inputs` only (through `seed` where it is random), and on `batch` only
        up to float rounding. `progress` is called with steps done and steps in total.
        """
