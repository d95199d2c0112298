"""Calibration and evaluation data: checked against the model's inputs, delivered in batches.

A file is opened once and refused at once where possible; what is only known after decoding (images,
memory-mapped arrays) is checked batch by batch, so memory does not grow with the number of samples.

A sample is what one label belongs to. It may be several rows of the model's batch: a pair of sentences, say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from trt_mpq.dataset.arrays import digest_arrays
from trt_mpq.dataset.fitting import (
    SEGMENTS,
    absent_segments,
    check_finite,
    check_lengths,
    check_names,
    fit,
    segments_note,
)
from trt_mpq.dataset.padding import Column, Padding
from trt_mpq.dataset.steps import Steps
from trt_mpq.errors import DataError
from trt_mpq.runtime.base import Array
from trt_mpq.types import TensorSpec

LABELS = "labels"
_SHARE = 4
"""Batches that taper have at most one part in so many of what is left: up to four who share them end together."""


@dataclass(frozen=True)
class Batch:
    """Samples that are delivered together.

    Attributes:
        feeds: Input name to array as the model takes it, with n * rows rows along its batch axis; the rows of a sample
            follow each other.
        labels: Labels [n, ...], or None.
        numbers: Numbers of the samples in the data [n].
        start: How many samples were delivered before.
        rows: Rows of the model's batch per sample.
        axes: Input name to its batch axis where that is not the first; None for what is the same for all rows.
    """

    feeds: dict[str, Array]
    labels: Array | None
    numbers: NDArray[np.intp]
    start: int
    rows: int = 1
    axes: Mapping[str, int | None] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of samples n."""
        return len(self.numbers)


@dataclass(frozen=True, eq=False)
class _PickedRows:
    """Some rows [n] of a column, read where they are needed."""

    column: Column
    rows: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: NDArray[np.intp]) -> Array:
        return self.column[self.rows[rows]]


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples that fit a model, in a fixed order.

    Attributes:
        source: What the user asked for, for messages and reports.
        inputs: The model's inputs.
        columns: One column per input that has a batch axis, with `rows` rows per sample.
        labels: Labels [count or more, ...], or None.
        count: Number of samples.
        content: SHA-256 over everything the source holds.
        rows: Rows of the model's batch per sample.
        padding: Where rows end, if batches may be cut there.
        notes: What the user should know, one sentence each.
        constants: Values of inputs without a batch axis, the same for all samples.
        output_axes: Output of the model to its axis that counts rows, where that is not the first.
        steps: How samples run that are sequences, which a model with states takes; None where they are none.
    """

    source: str
    inputs: tuple[TensorSpec, ...]
    columns: Mapping[str, Column]
    labels: Array | None
    count: int
    content: str
    rows: int = 1
    padding: Padding | None = None
    notes: tuple[str, ...] = ()
    constants: Mapping[str, Array] = field(default_factory=dict)
    output_axes: Mapping[str, int] = field(default_factory=dict)
    steps: Steps | None = None

    @property
    def has_labels(self) -> bool:
        """Whether batches carry labels."""
        return self.labels is not None

    @property
    def fingerprint(self) -> str:
        """SHA-256 that changes with the content, the number of samples and what a sample is, and with nothing else."""
        parts = f"{self.content} {self.count}" + (f" {self.rows} rows" if self.rows > 1 else "")
        return hashlib.sha256(parts.encode()).hexdigest()

    def take(self, count: int) -> Samples:
        """The first `count` samples, or all if there are fewer.

        Raises:
            DataError: `count` is below 1.
        """
        if count < 1:
            raise DataError(f"{self.source}: cannot take {count} samples, ask for at least 1")
        return replace(self, count=min(count, self.count))

    def select(self, numbers: NDArray[np.intp]) -> Samples:
        """The samples with these `numbers` [n], in that order and counted anew: a view, nothing is read."""
        rows = rows_of(numbers, self.rows)
        padding = self.padding and replace(self.padding, lengths=self.padding.lengths[rows])
        return replace(
            self,
            columns={name: _PickedRows(column, rows) for name, column in self.columns.items()},
            labels=None if self.labels is None else self.labels[numbers],
            count=len(numbers),
            content=hashlib.sha256(self.content.encode() + numbers.tobytes()).hexdigest(),
            padding=padding,
        )

    def giving(self, outputs: tuple[TensorSpec, ...]) -> Samples:
        """The same samples, for a model with these `outputs`: what it gives is taken apart where rows are."""
        return replace(self, output_axes={spec.name: spec.batch_axis for spec in outputs if spec.batch_axis})

    def running(self, outputs: Sequence[str]) -> tuple[str, ...]:
        """What a session has to give so that the samples run through it and `outputs` come out."""
        return tuple(dict.fromkeys((*outputs, *(self.steps.states.values() if self.steps else ()))))

    def noted(self, *notes: str) -> Samples:
        """The same samples, with more that the user should know."""
        return replace(self, notes=(*self.notes, *notes))

    def single_rows(self) -> Samples:
        """The same data with every row a sample of its own; without labels where they belong to several rows."""
        if self.rows == 1:
            return self
        return replace(self, rows=1, count=self.count * self.rows, labels=None)

    def uncut(self) -> Samples:
        """The same samples, always as long as the data stores them."""
        return self if self.padding is None else replace(self, padding=None)

    def batches(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """Deliver the samples in order and uncut, `size` at a time; the last batch may be smaller.

        Args:
            size: Samples per batch.
            limit: Stop after this many samples.

        Yields:
            Batches whose arrays are fresh, writable and contiguous.

        Raises:
            DataError: A sample holds NaN or inf, or does not fit the model.
        """
        _require_positive(size)
        end = self.count if limit is None else min(limit, self.count)
        for start in range(0, end, size):
            yield self._batch(np.arange(start, min(start + size, end)), start)

    def by_length(
        self, size: int, limit: int | None = None, block: int | None = None, least: int | None = None
    ) -> Iterator[Batch]:
        """Deliver samples of equal length together and cut to it, the longest first; without padding, as `batches`.

        What a sample looks like does not depend on `size`, because no batch holds samples of two lengths: only a
        sample of several rows keeps the padding of its shorter ones. The longest come first so that memory is at
        its peak at once.

        Args:
            size: Samples per batch, at most.
            limit: Deliver only the first so many samples of the data.
            block: No batch reaches across a multiple of so many delivered samples.
            least: Towards the end batches get smaller, down to so many samples, for those that are run side by side
                (guided self-scheduling, Polychronopoulos and Kuck 1987); None for batches of one size.

        Raises:
            DataError: A sample holds NaN or inf, or does not fit the model.
        """
        _require_positive(size)
        count = self.count if limit is None else min(limit, self.count)
        lengths = np.zeros(count, int) if self.padding is None else self.padding.lengths_of(count, self.rows)
        start = 0
        for length in np.unique(lengths)[::-1]:
            equal = np.flatnonzero(lengths == length)
            while len(equal):
                fair = size if least is None else max(least, -(-(count - start) // _SHARE))
                rest = size if block is None else block - start % block
                numbers, equal = np.split(equal, [min(size, fair, rest)])
                batch = self._batch(numbers, start)
                yield batch if self.padding is None else _cut(batch, self.padding, int(length))
                start += len(numbers)

    def _batch(self, numbers: NDArray[np.intp], start: int) -> Batch:
        rows = rows_of(numbers, self.rows)
        owners = np.repeat(numbers, self.rows)
        feeds = {spec.name: self._feed(spec, rows, owners) for spec in self.inputs}
        labels = None if self.labels is None else np.array(self.labels[numbers])
        axes = {spec.name: spec.batch_axis for spec in self.inputs}
        return Batch(feeds, labels, numbers, start, self.rows, axes)

    def _feed(self, spec: TensorSpec, rows: NDArray[np.intp], owners: NDArray[np.intp]) -> Array:
        if spec.batch_axis is None:
            return np.array(self.constants[spec.name])
        fitted = fit(self.columns[spec.name][rows], spec, self.source, owners)
        return np.array(np.moveaxis(fitted, 0, spec.batch_axis), order="C")


def _cut(batch: Batch, padding: Padding, length: int) -> Batch:
    feeds = {name: np.ascontiguousarray(array) for name, array in padding.cut_feeds(batch.feeds, length).items()}
    labels = None if batch.labels is None else padding.cut_labels(batch.labels, length)
    return replace(batch, feeds=feeds, labels=labels)


def rows_of(numbers: NDArray[np.intp], rows: int) -> NDArray[np.intp]:
    """Row numbers [n * rows] of the samples `numbers` [n], which have `rows` rows each."""
    return np.asarray((numbers[:, None] * rows + np.arange(rows)).ravel())


def pad_batch(batch: Batch, size: int) -> Batch:
    """`batch` grown to `size` rows by repeating its last one, for models with a fixed batch dimension.

    The caller cuts the outputs back to the size of the original batch.
    """
    missing = size - batch.size * batch.rows
    if missing < 0:
        raise ValueError(f"a batch of {batch.size * batch.rows} rows cannot be padded to {size}")

    def pad(array: Array, count: int, axis: int | None = 0) -> Array:
        if axis is None:
            return array
        return np.concatenate([array, np.repeat(array.take([-1], axis), count, axis)], axis)

    samples = missing // batch.rows
    feeds = {name: pad(array, missing, batch.axes.get(name, 0)) for name, array in batch.feeds.items()}
    labels = None if batch.labels is None else pad(batch.labels, samples)
    return replace(batch, feeds=feeds, labels=labels, numbers=pad(batch.numbers, samples))


def samples_from_arrays(
    arrays: Mapping[str, Array], inputs: tuple[TensorSpec, ...], labels: Array | None = None, source: str = "arrays"
) -> Samples:
    """Samples that are already in memory, with every value checked now.

    Args:
        arrays: Input name to array as the model takes it, with all rows along its batch axis. An input whose batch axis
            is not the first, a state, may have one row, which is every sample's.
        inputs: The model's inputs.
        labels: Labels [n, ...], or None.
        source: How messages call the data.

    Raises:
        DataError: The arrays do not fit the inputs, hold NaN or inf, or differ in length.
    """
    if like := absent_segments(arrays, inputs):
        arrays = {**arrays, SEGMENTS: np.zeros(arrays[like].shape, np.uint8)}
        return samples_from_arrays(arrays, inputs, labels, source).noted(segments_note(source))
    named = [*arrays.items()] + ([] if labels is None else [(LABELS, labels)])
    check_names(arrays, inputs, source)
    constants = {spec.name: _constant(arrays[spec.name], spec, source) for spec in inputs if spec.batch_axis is None}
    columns = _columns({name: array for name, array in arrays.items() if name not in constants}, inputs)
    samples = checked_samples(columns, inputs, labels, source, digest_arrays(named), constants=constants)
    fitted = {spec.name: fit(columns[spec.name], spec, source) for spec in inputs if spec.batch_axis is not None}
    return replace(samples, columns=fitted)


def _constant(array: Array, spec: TensorSpec, source: str) -> Array:
    """A value that is the same for all samples, in the dtype of its input."""
    return fit(np.asarray(array)[None], replace(spec, shape=("all", *spec.shape), batch_axis=0), source).reshape(
        array.shape
    )


def _columns(arrays: Mapping[str, Array], inputs: tuple[TensorSpec, ...]) -> dict[str, Array]:
    """Arrays [n, ...] of arrays that have their rows along another axis, and of states that are given once."""
    states = {spec.name: spec.batch_axis for spec in inputs if spec.batch_axis}
    moved = {name: _rows_first(array, states.get(name, 0)) for name, array in arrays.items()}
    most = max((len(array) for array in moved.values() if array.ndim), default=0)
    once = {name for name in states if name in moved and moved[name].ndim and len(moved[name]) == 1}
    repeated = {name: np.broadcast_to(moved[name], (most, *moved[name].shape[1:])) for name in once}
    return {**moved, **repeated}


def _rows_first(array: Array, axis: int) -> Array:
    return np.moveaxis(array, axis, 0) if array.ndim > axis else array


def checked_samples(
    columns: Mapping[str, Column],
    inputs: tuple[TensorSpec, ...],
    labels: Array | None,
    source: str,
    content: str,
    *,
    rows: int = 1,
    trim: str | None = None,
    constants: Mapping[str, Array] | None = None,
) -> Samples:
    """Samples whose names, lengths, labels and first sample fit the model; the rest is checked while streaming.

    Args:
        columns: One column per input, with `rows` rows per sample.
        inputs: The model's inputs.
        labels: Labels [samples, ...], or None.
        source: How messages call the data.
        content: SHA-256 over everything the source holds.
        rows: Rows per sample.
        trim: The input that says by its zeros where rows end, if batches may be cut there.
        constants: Values of inputs without a batch axis.

    Raises:
        DataError: One sentence that names the array and what to do.
    """
    check_names({**columns, **(constants or {})}, inputs, source)
    batched = [spec for spec in inputs if spec.batch_axis is not None]
    if not batched:
        raise DataError(
            f"no input of the model has an axis that counts rows: name one with --batch-axis {inputs[0].name}:0"
        )
    if absent := [spec.name for spec in inputs if spec.batch_axis is None and spec.name not in (constants or {})]:
        raise DataError(
            f"{source}: input {absent[0]!r} has no axis that counts rows: give its one value in an .npz, or say which "
            f"axis does with --batch-axis {absent[0]}:0"
        )
    for spec in batched:
        if not spec.shape:
            raise DataError(f"input {spec.name!r} of the model is a scalar: it has no batch dimension to fill")
        size = spec.shape[spec.batch_axis or 0]
        if isinstance(size, int) and size % rows:
            raise DataError(
                f"{source}: a sample is {rows} rows and input {spec.name!r} of the model has a fixed batch of "
                f"{size}: export the model with a dynamic batch dimension"
            )
    if labels is not None:
        check_finite(labels, LABELS, source)
    count = check_lengths(columns if labels is None or rows > 1 else {**columns, LABELS: labels}, source) // rows
    if count == 0:
        raise DataError(f"{source} holds no samples: provide at least one")
    for spec in batched:
        fit(columns[spec.name][np.arange(rows)], spec, source)
    samples = Samples(source, inputs, columns, labels, count, content, rows, constants=constants or {})
    return samples if trim is None else _trimmed(samples, trim)


def _trimmed(samples: Samples, mask: str) -> Samples:
    padding = Padding.from_mask(mask, samples.columns, samples.inputs, samples.source)
    if padding is None:
        note = f"{samples.source}: `trim` is ignored, because the model has no named dynamic axis to cut {mask!r} on"
        return replace(samples, notes=(*samples.notes, note))
    return replace(samples, padding=padding)


def _require_positive(size: int) -> None:
    if size < 1:
        raise ValueError(f"batch size must be at least 1, got {size}")
