"""Calibration and evaluation data: checked against the model's inputs, delivered in batches.

A file is opened once and refused at once where possible; what is only known after decoding (images,
memory-mapped arrays) is checked batch by batch, so memory does not grow with the number of samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from trt_mpq.dataset.arrays import digest_arrays
from trt_mpq.errors import DataError
from trt_mpq.runtime.base import Array
from trt_mpq.types import TensorSpec

LABELS = "labels"


class Column(Protocol):
    """The values of one model input, read lazily: `column[start:stop]` is an array [n, ...].

    A numpy array and a memory map are columns.
    """

    def __len__(self) -> int:
        """Number of samples."""

    def __getitem__(self, rows: slice, /) -> Array:
        """The samples of a contiguous slice."""


@dataclass(frozen=True)
class Batch:
    """Consecutive samples.

    Attributes:
        feeds: Input name to array [n, ...], in the model's dtype.
        labels: Labels [n, ...], or None.
        start: Index of the first sample.
    """

    feeds: dict[str, Array]
    labels: Array | None
    start: int

    @property
    def size(self) -> int:
        """Number of samples n."""
        return len(next(iter(self.feeds.values())))


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples that fit a model, in a fixed order.

    Attributes:
        source: What the user asked for, for messages and reports.
        inputs: The model's inputs.
        columns: One column per input.
        labels: Labels [count or more, ...], or None.
        count: Number of samples.
        content: SHA-256 over everything the source holds.
    """

    source: str
    inputs: tuple[TensorSpec, ...]
    columns: Mapping[str, Column]
    labels: Array | None
    count: int
    content: str

    @property
    def has_labels(self) -> bool:
        """Whether batches carry labels."""
        return self.labels is not None

    @property
    def fingerprint(self) -> str:
        """SHA-256 that changes with the content and with the number of samples, and with nothing else."""
        return hashlib.sha256(f"{self.content} {self.count}".encode()).hexdigest()

    def take(self, count: int) -> Samples:
        """The first `count` samples, or all if there are fewer.

        Raises:
            DataError: `count` is below 1.
        """
        if count < 1:
            raise DataError(f"{self.source}: cannot take {count} samples, ask for at least 1")
        return replace(self, count=min(count, self.count))

    def batches(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """Deliver the samples in order, `size` at a time; the last batch may be smaller.

        Args:
            size: Samples per batch.
            limit: Stop after this many samples.

        Yields:
            Batches whose arrays are fresh, writable and contiguous.

        Raises:
            DataError: A sample holds NaN or inf, or does not fit the model.
        """
        if size < 1:
            raise ValueError(f"batch size must be at least 1, got {size}")
        end = self.count if limit is None else min(limit, self.count)
        for start in range(0, end, size):
            yield self._batch(slice(start, min(start + size, end)))

    def _batch(self, rows: slice) -> Batch:
        feeds = {
            spec.name: np.array(fit(self.columns[spec.name][rows], spec, self.source, rows.start), order="C")
            for spec in self.inputs
        }
        labels = None if self.labels is None else np.array(self.labels[rows])
        return Batch(feeds, labels, rows.start)


def pad_batch(batch: Batch, size: int) -> Batch:
    """`batch` grown to `size` samples by repeating its last one, for models with a fixed batch dimension.

    The caller cuts the outputs back to the size of the original batch.
    """
    missing = size - batch.size
    if missing < 0:
        raise ValueError(f"a batch of {batch.size} samples cannot be padded to {size}")

    def pad(array: Array) -> Array:
        return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])

    labels = None if batch.labels is None else pad(batch.labels)
    return Batch({name: pad(array) for name, array in batch.feeds.items()}, labels, batch.start)


def samples_from_arrays(
    arrays: Mapping[str, Array], inputs: tuple[TensorSpec, ...], labels: Array | None = None, source: str = "arrays"
) -> Samples:
    """Samples that are already in memory, with every value checked now.

    Args:
        arrays: Input name to array [n, ...].
        inputs: The model's inputs.
        labels: Labels [n, ...], or None.
        source: How messages call the data.

    Raises:
        DataError: The arrays do not fit the inputs, hold NaN or inf, or differ in length.
    """
    named = [*arrays.items()] + ([] if labels is None else [(LABELS, labels)])
    samples = checked_samples(arrays, inputs, labels, source, digest_arrays(named))
    fitted = {spec.name: fit(arrays[spec.name], spec, source) for spec in inputs}
    return replace(samples, columns=fitted)


def checked_samples(
    columns: Mapping[str, Column], inputs: tuple[TensorSpec, ...], labels: Array | None, source: str, content: str
) -> Samples:
    """Samples whose names, lengths, labels and first sample fit the model; the rest is checked while streaming."""
    check_names(columns, inputs, source)
    for spec in inputs:
        if not spec.shape:
            raise DataError(f"input {spec.name!r} of the model is a scalar: it has no batch dimension to fill")
    if labels is not None:
        _check_finite(labels, LABELS, source)
    count = check_lengths(columns if labels is None else {**columns, LABELS: labels}, source)
    if count == 0:
        raise DataError(f"{source} holds no samples: provide at least one")
    for spec in inputs:
        fit(columns[spec.name][slice(0, 1)], spec, source)
    return Samples(source, inputs, columns, labels, count, content)


def check_names(names: Iterable[str], inputs: tuple[TensorSpec, ...], source: str) -> None:
    """Raise DataError unless `names` are exactly the names of `inputs`."""
    wanted, given = {spec.name for spec in inputs}, set(names)
    complaints = [
        text + ", ".join(repr(name) for name in sorted(rest))
        for text, rest in (("lacks ", wanted - given), ("has the surplus ", given - wanted))
        if rest
    ]
    if complaints:
        raise DataError(f"{source} {' and '.join(complaints)}: the model's inputs are {names_of(inputs)}")


def check_lengths(columns: Mapping[str, Column], source: str) -> int:
    """Number of samples; raises DataError unless all `columns` (labels among them) have as many."""
    for name, column in columns.items():
        if isinstance(column, np.ndarray) and column.ndim == 0:
            raise DataError(f"{source}: array {name!r} is a single number: it needs one row per sample")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
        raise DataError(f"{source}: every array needs one row per sample, but the row counts differ: {listed}")
    return next(iter(lengths.values()))


def fit(array: Array, spec: TensorSpec, source: str, start: int = 0) -> Array:
    """`array` in the dtype of input `spec`, after checking dtype, shape and values.

    Only lossless integer widening (int32 to int64, say) happens silently.

    Args:
        array: Values [n, ...]; sample 0 is number `start` of the source.
        spec: The model's input.
        source: How messages call the data.
        start: Index of the first sample, for messages.

    Raises:
        DataError: One sentence that names the array and what to do.
    """
    if len(spec.shape) != array.ndim or any(
        isinstance(want, int) and want != got for want, got in zip(spec.shape[1:], array.shape[1:], strict=True)
    ):
        given, wanted = (f"[{', '.join(map(str, shape[1:]))}]" for shape in (array.shape, spec.shape))
        raise DataError(
            f"{source}: one sample of array {spec.name!r} has shape {given} but the model wants {wanted} "
            "(dimension 0 of the array counts samples)"
        )
    wanted_dtype = np.dtype(spec.dtype)
    if not _widens(array.dtype, wanted_dtype):
        raise DataError(
            f"{source}: array {spec.name!r} is {array.dtype} but the model wants {wanted_dtype}: "
            f"{_dtype_hint(array.dtype, wanted_dtype)}"
        )
    _check_finite(array, spec.name, source, start)
    return array.astype(wanted_dtype, copy=False)


def _widens(given: np.dtype, wanted: np.dtype) -> bool:
    if given.newbyteorder("=") == wanted:
        return True
    return given.kind in "iub" and wanted.kind in "iu" and np.can_cast(given, wanted, "safe")


def _dtype_hint(given: np.dtype, wanted: np.dtype) -> str:
    if given.kind in "iub" and wanted.kind == "f":
        return "store preprocessed values, or describe the preprocessing in a recipe (calib/README.md)"
    return f"convert it with .astype(np.{wanted})"


def _check_finite(array: Array, name: str, source: str, start: int = 0) -> None:
    if array.dtype.kind not in "fc" or np.isfinite(array).all():
        return
    sample = int(np.argmin(np.isfinite(array.reshape(len(array), -1)).all(axis=1)))
    raise DataError(f"{source}: array {name!r} holds NaN or inf, first in sample {start + sample}: remove or repair it")


def names_of(inputs: tuple[TensorSpec, ...]) -> str:
    """The inputs as a message lists them: name, dtype and shape."""
    return ", ".join(f"{spec.name!r} {spec.dtype}[{', '.join(map(str, spec.shape))}]" for spec in inputs)
