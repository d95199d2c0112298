"""Samples in the portions a graph takes: as many as memory allows, or exactly the batch its file fixes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trt_mpq.dataset import Batch, Samples, pad_batch
from trt_mpq.runtime.base import Array, Arrays, Session
from trt_mpq.types import TensorSpec


@dataclass(frozen=True)
class Chunk:
    """Samples to run at once.

    Attributes:
        batch: The samples themselves.
        feeds: Input name to array [n, ...]; more rows than the batch only if the model fixes its batch dimension,
            and then the last sample fills them.
    """

    batch: Batch
    feeds: Arrays

    @property
    def end(self) -> int:
        """Number of samples up to and including this chunk."""
        return self.batch.start + self.batch.size

    def run(self, session: Session) -> Arrays:
        """Every output of `session` for the samples, without the rows that only fill."""
        return {name: self.cut(value) for name, value in session.run(self.feeds).items()}

    def cut(self, value: Array) -> Array:
        """The part of a tensor that stems from the samples, if axis 0 counts them (or rows of them)."""
        rows = len(next(iter(self.feeds.values())))
        if rows == self.batch.size or value.ndim == 0 or len(value) % rows:
            return value
        return value[: len(value) // rows * self.batch.size]


def fixed_batch(inputs: tuple[TensorSpec, ...]) -> int | None:
    """The batch dimension that a model with these inputs fixes, or None if it takes any."""
    size = inputs[0].shape[0] if inputs[0].shape else None
    return size if isinstance(size, int) else None


def chunks(samples: Samples, size: int) -> Iterator[Chunk]:
    """All samples in order, at most `size` at a time, or exactly as many as the model fixes."""
    fixed = fixed_batch(samples.inputs)
    for batch in samples.batches(fixed or size):
        yield Chunk(batch, pad_batch(batch, fixed).feeds if fixed else batch.feeds)
