"""Data of a Python program as arrays by name, whatever holds it: arrays, loaders, data sets, functions.

What was given is kept in the run folder as a file. So workers read it, a run is resumed by its content, and the command
line goes on where Python stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from trt_mpq.dataset.samples import LABELS
from trt_mpq.errors import DataError
from trt_mpq.runtime.base import Array
from trt_mpq.runtime.user_code import UserCodeError, running_user_code

_LABEL_NAMES = (LABELS, "label")
"""How data sets call them."""
_MOST_BYTES = 8 << 30


@dataclass(frozen=True)
class Expected:
    """What a model takes.

    Attributes:
        names: Its inputs, in order.
        required: How many of them have to be given.
        dtypes: Of inputs, as far as they are known.
        ranks: Of inputs with their batch, as far as they are known.
    """

    names: tuple[str, ...]
    required: int
    dtypes: Mapping[str, str] = field(default_factory=dict)
    ranks: Mapping[str, int] = field(default_factory=dict)


def is_data(value: object) -> bool:
    """Whether `value` is data itself and not the name of some."""
    return value is not None and not isinstance(value, str) and not hasattr(value, "__fspath__")


def arrays_from(data: Any, expected: Expected, setting: str, limit: int | None = None) -> dict[str, Array]:
    """The arrays that `data` holds, by the names of the model's inputs, and `labels` if there are any.

    Args:
        data: One of

            - an array or tensor [n, ...], for a model with one input;
            - a tuple of them in the order of the inputs, perhaps with labels behind them;
            - a mapping from input names (and `labels`) to them;
            - a data set of Hugging Face, whose columns are called after the inputs, `label` or `labels`;
            - a data set of torch, which holds samples;
            - a loader of torch, a list or any other iterable of batches, each a tuple or a mapping as above; samples
              do too, which are told by their number of dimensions;
            - a function without arguments that returns one of these.
        expected: What the model takes.
        setting: How messages call the data.
        limit: Take the first so many samples, and draw no more than that.

    Raises:
        DataError: It is none of these, does not fit, holds more than 8 GiB, or raises an error when it is read.
    """
    try:
        with running_user_code():
            found = _arrays(data, expected, setting, limit)
    except UserCodeError as error:
        raise DataError(f"the data for {setting} {error}") from error
    return {name: _as_wanted(array, expected.dtypes.get(name), f"{setting}: {name}") for name, array in found.items()}


def _arrays(data: Any, expected: Expected, setting: str, limit: int | None) -> dict[str, Array]:
    if callable(data) and not hasattr(data, "__iter__") and not hasattr(data, "__getitem__"):
        data = data()
    if _is_table(data):
        data = _columns(data, expected, limit)
    if isinstance(data, Mapping | tuple) or _is_array(data):
        arrays = _by_name(data, expected, setting)
        return {name: array[:limit] if array.ndim else array for name, array in arrays.items()}
    return _joined(_batches(data, expected, setting), setting, limit)


def _is_array(value: object) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _is_table(data: object) -> bool:
    return hasattr(data, "column_names") and hasattr(data, "with_format") and hasattr(data, "__len__")


def _columns(data: Any, expected: Expected, limit: int | None) -> Mapping[str, Any]:
    """The columns of a table that a model takes, and its labels."""
    wanted = [name for name in data.column_names if name in expected.names or name in _LABEL_NAMES]
    columns: Mapping[str, Any] = data.select_columns(wanted).with_format("numpy")[:limit]
    return columns


def _batches(data: Any, expected: Expected, setting: str) -> Iterator[dict[str, Array]]:
    """Batches by name of what yields batches or samples."""
    holds_samples = hasattr(data, "__getitem__") and not isinstance(data, list)
    for item in _items(data, setting):
        arrays = _by_name(_chosen(item, expected), expected, setting)
        first = next(name for name in arrays if name != LABELS)
        known = expected.ranks.get(first)
        sample = holds_samples if known is None else arrays[first].ndim == known - 1
        yield {name: array[None] if sample else array for name, array in arrays.items()}


def _items(data: Any, setting: str) -> Iterable[Any]:
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return (data[index] for index in range(len(data)))
    if not isinstance(data, Iterable):
        raise DataError(
            f"{setting} is an object of type {type(data).__name__}: give arrays, a mapping from input names to arrays, "
            "a data set or loader, or a function that returns one"
        )
    return data


def _chosen(item: Any, expected: Expected) -> Any:
    """An item of a stream without what the model does not take, such as the text that tokens were made of."""
    if not isinstance(item, Mapping) or not expected.names:
        return item
    return {name: value for name, value in item.items() if name in expected.names or name in _LABEL_NAMES}


def _by_name(given: Any, expected: Expected, setting: str) -> dict[str, Array]:
    """Arrays by input name, and labels, of a mapping, a tuple in the order of the inputs, or a single array."""
    if isinstance(given, tuple | list) and len(given) == 2 and isinstance(given[0], Mapping):
        given = {**given[0], LABELS: given[1]}
    if not isinstance(given, Mapping):
        given = _in_order(given if isinstance(given, tuple | list) else (given,), expected, setting)
    if "label" in given and "label" not in expected.names:
        given = {LABELS if name == "label" else name: value for name, value in given.items()}
    if set(given) <= {LABELS}:
        raise DataError(f"{setting} has none of the model's inputs, which are {', '.join(expected.names)}")
    return {name: _array(value, f"{setting}: {name}") for name, value in given.items()}


def _in_order(given: tuple[Any, ...] | list[Any], expected: Expected, setting: str) -> dict[str, Any]:
    if len(given) == expected.required + 1:
        return {**dict(zip(expected.names, given, strict=False)), LABELS: given[-1]}
    if not expected.required <= len(given) <= len(expected.names):
        raise DataError(
            f"{setting} gives {len(given)} arrays and the model has {len(expected.names)} inputs "
            f"({', '.join(expected.names)}): give one for each and perhaps labels behind them, or a mapping by name"
        )
    return dict(zip(expected.names, given, strict=False))


def _array(value: Any, where: str) -> Array:
    """`value` as an array that a file can hold; raises DataError."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:  # ragged lists
        raise _ragged(where) from error
    if array.dtype.kind == "O":
        if all(isinstance(row, np.ndarray | list | tuple) for row in array.ravel()[:1]):
            raise _ragged(where)
        raise DataError(f"{where} holds Python objects: give numbers, images as tensors and text as tokens")
    return array


def _ragged(where: str) -> DataError:
    return DataError(f"{where} has rows of different lengths: pad them to one")


def _joined(batches: Iterator[dict[str, Array]], setting: str, limit: int | None) -> dict[str, Array]:
    parts: dict[str, list[Array]] = {}
    count = size = 0
    while (limit is None or count < limit) and (batch := next(batches, None)) is not None:
        if parts and parts.keys() != batch.keys():
            raise DataError(
                f"{setting} yields {', '.join(batch)} after {', '.join(parts)}: give the same of every batch"
            )
        for name, array in batch.items():
            parts.setdefault(name, []).append(np.atleast_1d(array))
        count += len(np.atleast_1d(next(iter(batch.values()))))
        size += sum(array.nbytes for array in batch.values())
        if size > _MOST_BYTES:
            raise DataError(
                f"{setting} holds more than {_MOST_BYTES >> 30} GiB: take fewer by --calib-samples or --eval-samples, "
                "or write it as .npy and read it by a recipe"
            )
    if not parts:
        raise DataError(f"{setting} yields nothing: an iterator can be read once only, give a list or a function")
    return {name: _concatenated(arrays, f"{setting}: {name}")[:limit] for name, arrays in parts.items()}


def _concatenated(arrays: list[Array], where: str) -> Array:
    try:
        return np.concatenate(arrays)
    except ValueError as error:
        raise _ragged(where) from error


def _as_wanted(array: Array, wanted: str | None, where: str) -> Array:
    """`array` in the type of its input where that loses nothing but digits: Python's floats are double."""
    if wanted is None or array.dtype == np.dtype(wanted):
        return array
    kind = np.dtype(wanted)
    if array.dtype.kind == "f" and kind.kind == "f":
        return array.astype(kind)
    if array.dtype.kind in "iu" and kind.kind in "iu" and array.size:
        bounds = np.iinfo(kind)
        if array.min() < bounds.min or array.max() > bounds.max:
            raise DataError(f"{where} holds values that the {wanted} of the model cannot: correct them")
        return array.astype(kind)
    return array


def first_rows(arrays: Mapping[str, Array], count: int) -> dict[str, Array]:
    """The first rows of every array but the labels, as example inputs."""
    return {name: np.array(list(islice(array, count))) for name, array in arrays.items() if name != LABELS}
