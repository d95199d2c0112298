"""Samples in the portions a graph takes: as many as memory allows, or exactly the batch its file fixes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from trt_mpq.dataset import Batch, Samples, pad_batch
from trt_mpq.dataset.steps import Steps, rows_first
from trt_mpq.runtime.base import Array, Arrays, Session
from trt_mpq.types import TensorSpec

_LEAST_ROWS = 8
"""Rows of a chunk below which a graph takes notably longer for each."""


@dataclass(frozen=True)
class Chunk:
    """Samples to run at once.

    Attributes:
        batch: The samples themselves.
        feeds: Input name to array as the model takes it; more rows than the batch has only if the model fixes its batch
            dimension, and then the last one fills them.
        rows: Rows of the feeds, those that only fill included.
        output_axes: Output to the axis that counts rows, where that is not the first.
        steps: How samples run that are sequences; None where they are none.
    """

    batch: Batch
    feeds: Arrays
    rows: int
    output_axes: Mapping[str, int] = field(default_factory=dict)
    steps: Steps | None = None

    @property
    def end(self) -> int:
        """Number of samples up to and including this chunk."""
        return self.batch.start + self.batch.size

    def run(self, session: Session, others: Mapping[str, Array] | None = None) -> Arrays:
        """Every output of `session` for the samples, [n, ...], without the rows that only fill.

        Where an output has its rows on another axis, that comes first. An output of several entries for each sample, as
        where a sample is several rows, is [n, entries, ...]; one of a sequence is [n, steps, ...]. `others` feeds the
        inputs that are no samples.
        """
        feeds = self.feeds | dict(others or {})
        return self.by_sample(session.run(feeds) if self.steps is None else self.steps.run(session, feeds))

    def by_sample(self, outputs: Arrays) -> Arrays:
        """Outputs for the rows of the feeds as outputs for the samples, see `run`."""
        found = {name: rows_first(value, self.output_axes.get(name)) for name, value in outputs.items()}
        return {name: self._by_sample(self.cut(value)) for name, value in found.items()}

    def cut(self, value: Array) -> Array:
        """The part of a tensor that stems from the samples, if axis 0 counts them (or rows of them)."""
        rows, own = self.rows, self.batch.size * self.batch.rows
        if rows == own or value.ndim == 0 or len(value) % rows:
            return value
        return value[: len(value) // rows * own]

    def _by_sample(self, value: Array) -> Array:
        samples = self.batch.size
        if value.ndim == 0 or len(value) <= samples or len(value) % (samples * self.batch.rows):
            return value
        return value.reshape(samples, len(value) // samples, *value.shape[1:])


def fixed_batch(inputs: tuple[TensorSpec, ...]) -> int | None:
    """The batch dimension that a model with these inputs fixes, or None if it takes any."""
    sizes = (spec.shape[spec.batch_axis] for spec in inputs if spec.batch_axis is not None and spec.shape)
    return next((size for size in sizes if isinstance(size, int)), None)


def counted_batches(inputs: tuple[TensorSpec, ...], batch: int) -> int:
    """How many times `batch` holds the rows that the model's element counts hold for."""
    return 1 if fixed_batch(inputs) else batch


def chunks(samples: Samples, size: int) -> Iterator[Chunk]:
    """All samples in order and uncut, at most `size` rows at a time, or exactly as many as the model fixes.

    A sample that is more rows than `size` is not divided.
    """
    fixed = fixed_batch(samples.inputs)
    return (_chunk(batch, fixed, samples) for batch in samples.batches(samples_at_once(samples, size)))


def chunks_by_length(
    samples: Samples, size: int, block: int | None = None, *, tapering: bool = False
) -> Iterator[Chunk]:
    """As `chunks`, but samples of equal length together and cut to it where the data tells lengths.

    The order is not that of the data, and what a sample looks like does not depend on `size`. Unless the model fixes
    its batch dimension, no chunk reaches across a multiple of `block` samples, and where they are `tapering` the last
    are smaller than the first, so that threads or workers that share them end together.
    """
    at_once = samples_at_once(samples, size)
    if fixed := fixed_batch(samples.inputs):
        batches = samples.by_length(at_once)
    else:
        batches = samples.by_length(at_once, block=block, least=_least(samples) if tapering else None)
    return (_chunk(batch, fixed, samples) for batch in batches)


def samples_at_once(samples: Samples, size: int) -> int:
    """Samples in a full chunk of `size` rows, or of the rows that the model fixes."""
    return max(1, (fixed_batch(samples.inputs) or size) // samples.rows)


def most_chunks(samples: Samples, size: int) -> int:
    """At most so many `tapering` chunks are made of samples of one length."""
    at_once = samples_at_once(samples, size)
    return -(-samples.count // (at_once if fixed_batch(samples.inputs) else min(at_once, _least(samples))))


def _least(samples: Samples) -> int:
    return max(1, _LEAST_ROWS // samples.rows)


def _chunk(batch: Batch, fixed: int | None, samples: Samples) -> Chunk:
    if fixed is None:
        return Chunk(batch, batch.feeds, batch.size * batch.rows, samples.output_axes, samples.steps)
    return Chunk(batch, pad_batch(batch, fixed).feeds, fixed, samples.output_axes, samples.steps)
