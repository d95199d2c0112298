"""One pass of graphs over the evaluation data: in portions, by length within them, with FP32's outputs beside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from trt_mpq.dataset import Samples
from trt_mpq.dataset.cached import CACHE_BYTES
from trt_mpq.dataset.chunks import Chunk, chunks_by_length
from trt_mpq.evaluate.sequential import Schedule
from trt_mpq.runtime.base import Arrays, Runtime, Session, size_of


@dataclass(frozen=True)
class Step:
    """What a graph runs at once.

    Attributes:
        chunk: The samples.
        positions: Their places [n] in the order of drawing, the order of the data where nothing is drawn.
        end: Number of samples that have run with it.
        reference: FP32's outputs for them, or None where the metric needs none.
    """

    chunk: Chunk
    positions: NDArray[np.intp]
    end: int
    reference: Arrays | None


class EvaluationPass:
    """The evaluation data in one order and length, the same for every graph.

    Args:
        fp32: The original graph.
        runtime: Where it runs.
        samples: Evaluation data; cut where it tells lengths.
        batch: Rows of the model's batch per run, at most.
        schedule: Order and portions; only within a portion samples of one length are put together.
        needs_reference: Whether FP32's outputs are wanted.
    """

    def __init__(
        self, fp32: ir.Model, runtime: Runtime, samples: Samples, batch: int, schedule: Schedule, needs_reference: bool
    ) -> None:
        self.samples, self.schedule = samples, schedule
        self._fp32, self._runtime, self._batch, self._needs_reference = fp32, runtime, batch, needs_reference
        self._kept: dict[int, Arrays] = {}
        self._kept_bytes = 0

    def steps(self, begun: int, end: int) -> Iterator[Step]:
        """Everything behind the first `begun` samples up to the first `end`; both are ends of portions, or 0."""
        session: Session | None = None
        for first, last in pairwise((0, *self.schedule.ends)):
            if not begun <= first < last <= end:
                continue
            for chunk in chunks_by_length(self._portion(first, last), self._batch):
                before = first + chunk.batch.start
                reference = self._kept.get(before)
                if reference is None and self._needs_reference:
                    session = session or self._runtime.load(self._fp32)
                    reference = self._keep(before, chunk.run(session))
                yield Step(chunk, first + chunk.batch.numbers, before + chunk.batch.size, reference)

    def _portion(self, first: int, last: int) -> Samples:
        order = self.schedule.order
        return self.samples if order is None else self.samples.select(order[first:last])

    def _keep(self, before: int, outputs: Arrays) -> Arrays:
        """`outputs` of the samples that `before` others precede, remembered if there is room for them."""
        size = size_of(outputs)
        if self._kept_bytes + size <= CACHE_BYTES:
            self._kept[before] = outputs
            self._kept_bytes += size
        return outputs
