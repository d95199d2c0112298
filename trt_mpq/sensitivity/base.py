"""What a sensitivity metric is given and what it must return."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from trt_mpq.dataset import Batch, Samples, pad_batch
from trt_mpq.observer import Progress
from trt_mpq.types import Grouping, LayerGroup, Precision, Ranges, Ranking

if TYPE_CHECKING:
    import onnx_ir as ir

    from trt_mpq.losses import Loss
    from trt_mpq.runtime.base import Arrays, Runtime, Session


@dataclass(frozen=True)
class SensitivityInputs:
    """Everything a metric may look at.

    Attributes:
        graph: The prepared FP32 network.
        grouping: Its groups.
        ranges: Calibrated ranges of every activation the groups quantize.
        candidates: Quantized precisions to score.
        samples: Calibration data; labels only if `loss` needs them.
        sample_limit: How many samples to use, from the first on.
        loss: What a perturbation is judged by.
        runtime: Runs FP32 graphs.
        batch: Samples per run. It changes speed and memory, not results. A network with a fixed batch
            dimension overrules it.
        seed: Source of all randomness.
    """

    graph: ir.Model
    grouping: Grouping
    ranges: Ranges
    candidates: tuple[Precision, ...]
    samples: Samples
    sample_limit: int
    loss: Loss
    runtime: Runtime
    batch: int
    seed: int

    @property
    def groups(self) -> tuple[LayerGroup, ...]:
        """The groups that may run in some candidate precision, in network order."""
        return tuple(group for group in self.grouping.groups if any(map(group.allows, self.candidates)))

    def batches(self, block: int | None = None) -> Iterator[Batch]:
        """The samples to use, in order, in batches that do not reach across a multiple of `block` samples."""
        size = self._fixed_batch or (self.batch if block is None else _largest_divisor(block, self.batch))
        return self.samples.batches(size, self.sample_limit)

    def fill(self, batch: Batch) -> Batch:
        """`batch`, grown to the size the network insists on, if it does."""
        size = self._fixed_batch or batch.size
        return batch if batch.size == size else pad_batch(batch, size)

    def run(self, session: Session, batch: Batch, feeds: Arrays | None = None) -> Arrays:
        """Outputs ``[n, ...]`` for a batch, given `feeds` for the inputs that are no samples."""
        full = self.fill(batch)
        outputs = session.run(full.feeds | (feeds or {}))
        return {name: value[: len(value) * batch.size // full.size] for name, value in outputs.items()}

    @property
    def _fixed_batch(self) -> int | None:
        shape = self.graph.graph.inputs[0].shape
        size = shape[0] if shape else None
        return size if isinstance(size, int) else None

    def ranking(
        self, metric: str, score: Callable[[LayerGroup, Precision], float], forward_passes: float = 0.0
    ) -> Ranking:
        """A ranking that asks `score` for every group in every candidate precision it may run in."""
        scores = {
            precision: {group.id: score(group, precision) for group in self.grouping.groups if group.allows(precision)}
            for precision in self.candidates
        }
        order = tuple(group.id for group in self.grouping.groups)
        return Ranking(metric, self.seed, order, scores, forward_passes)


def _largest_divisor(number: int, limit: int) -> int:
    return max(divisor for divisor in range(1, min(number, limit) + 1) if number % divisor == 0)


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
