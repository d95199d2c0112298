"""Whether arrays are what a model's inputs take: names, lengths, shapes, dtypes and finite values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized

import numpy as np
from numpy.typing import NDArray

from trt_mpq.errors import DataError
from trt_mpq.runtime.base import Array
from trt_mpq.types import TensorSpec

SEGMENTS = "token_type_ids"
"""An input of BERT and its like that tokenizers leave out."""


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


def absent_segments(names: Iterable[str], inputs: tuple[TensorSpec, ...]) -> str | None:
    """The input that gives the shape of `token_type_ids` where data lacks these alone, which are 0 for one segment."""
    given = set(names)
    if {spec.name for spec in inputs} - given != {SEGMENTS}:
        return None
    [wanted] = (spec for spec in inputs if spec.name == SEGMENTS)
    alike = (spec.name for spec in inputs if spec.name in given and len(spec.shape) == len(wanted.shape))
    return next(alike, None) if np.dtype(wanted.dtype).kind in "iu" else None


def segments_note(source: str) -> str:
    """What is said where they are made up."""
    return f"{source} has no {SEGMENTS}: they are 0, as for texts of one segment"


def check_lengths(columns: Mapping[str, Sized], source: str) -> int:
    """How many rows all `columns` (labels among them) have; raises DataError unless they have as many."""
    for name, column in columns.items():
        if isinstance(column, np.ndarray) and column.ndim == 0:
            raise DataError(f"{source}: array {name!r} is a single number: it needs one row per sample")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
        raise DataError(f"{source}: every array needs one row per sample, but the row counts differ: {listed}")
    return next(iter(lengths.values()))


def fit(array: Array, spec: TensorSpec, source: str, numbers: NDArray[np.intp] | None = None) -> Array:
    """`array` in the dtype of input `spec`, after checking dtype, shape and values.

    Only lossless integer widening (int32 to int64, say) happens silently.

    Args:
        array: Values [n, ...].
        spec: The model's input.
        source: How messages call the data.
        numbers: Number of the sample that each row belongs to, for messages; without, rows are samples from 0 on.

    Raises:
        DataError: One sentence that names the array and what to do.
    """
    wanted, found = spec.row_shape, array.shape[1:]
    if len(wanted) != len(found) or any(isinstance(w, int) and w != f for w, f in zip(wanted, found, strict=True)):
        texts = [f"[{', '.join(map(str, shape))}]" for shape in (found, wanted)]
        raise DataError(
            f"{source}: one sample of array {spec.name!r} has shape {texts[0]} but the model wants {texts[1]} "
            f"(dimension {spec.batch_axis or 0} of the array counts samples)"
        )
    wanted_dtype = np.dtype(spec.dtype)
    if not _widens(array.dtype, wanted_dtype):
        raise DataError(
            f"{source}: array {spec.name!r} is {array.dtype} but the model wants {wanted_dtype}: "
            f"{_dtype_hint(array.dtype, wanted_dtype)}"
        )
    check_finite(array, spec.name, source, numbers)
    return array.astype(wanted_dtype, copy=False)


def check_finite(array: Array, name: str, source: str, numbers: NDArray[np.intp] | None = None) -> None:
    """Raise DataError if `array` [n, ...] holds NaN or inf; `numbers` as in `fit`."""
    if array.dtype.kind not in "fc" or np.isfinite(array).all():
        return
    row = int(np.argmin(np.isfinite(array.reshape(len(array), -1)).all(axis=1)))
    sample = row if numbers is None else numbers[row]
    raise DataError(f"{source}: array {name!r} holds NaN or inf, first in sample {sample}: remove or repair it")


def names_of(inputs: tuple[TensorSpec, ...]) -> str:
    """The inputs as a message lists them: name, dtype and shape."""
    return ", ".join(f"{spec.name!r} {spec.dtype}[{', '.join(map(str, spec.shape))}]" for spec in inputs)


def _widens(given: np.dtype, wanted: np.dtype) -> bool:
    if given.newbyteorder("=") == wanted:
        return True
    return given.kind in "iub" and wanted.kind in "iu" and np.can_cast(given, wanted, "safe")


def _dtype_hint(given: np.dtype, wanted: np.dtype) -> str:
    if given.kind in "iub" and wanted.kind == "f":
        return "store preprocessed values, or describe the preprocessing in a recipe (calib/README.md)"
    return f"convert it with .astype(np.{wanted})"
