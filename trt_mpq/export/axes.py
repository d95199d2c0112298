"""Which dimensions of the inputs are free, and example inputs of other sizes made from those given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from trt_mpq.errors import DataError, SettingsError
from trt_mpq.export.values import DynamicAxis
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.runtime.torch_export import shapes_text

BATCH = "batch"
_SEQUENCE = "sequence"


def dynamic_axes(feeds: Arrays, given: Sequence[DynamicAxis], *, batch: bool) -> tuple[DynamicAxis, ...]:
    """The free axes: those `given`, dimension 0 of every input if `batch`, and the length of token sequences.

    An integer input [n, length] is taken for tokens or their mask. Its length is free unless the module fixes it, as
    one that looks up a fixed set of categories does.

    Args:
        feeds: Example inputs.
        given: What the user or the source of the module says; they have precedence.
        batch: Whether the batch is free.

    Raises:
        SettingsError: An axis that is `given` does not exist.
        DataError: Axes of one symbol have different sizes in `feeds`.
    """
    axes = {(axis.input, axis.axis): _known(axis, feeds) for axis in given}
    if batch:
        for name, value in feeds.items():
            if value.ndim:
                axes.setdefault((name, 0), DynamicAxis(name, 0, BATCH))
    for axis in _sequences(feeds):
        axes.setdefault((axis.input, 1), axis)
    found = tuple(axes.values())
    sizes_of(feeds, found)
    return found


def sizes_of(feeds: Arrays, axes: Sequence[DynamicAxis]) -> dict[str, int]:
    """Size of each symbol in `feeds`; raises DataError if two axes of one symbol differ."""
    sizes: dict[str, int] = {}
    for axis in axes:
        size = feeds[axis.input].shape[axis.axis]
        if sizes.setdefault(axis.symbol, size) != size:
            raise DataError(
                f"the example inputs disagree on the size of {axis.symbol}: {shapes_text(feeds)} (axes that differ "
                "need different symbols, see --dynamic; a batch that is not dimension 0 needs --fixed-batch)"
            )
    return sizes


def resized(feeds: Arrays, axes: Sequence[DynamicAxis], sizes: Mapping[str, int]) -> Arrays:
    """`feeds` with each axis whose symbol is in `sizes` brought to that size.

    A shorter axis keeps the first and the last of its elements, so that a mask with padding on either side never
    hides everything; a longer one begins again.
    """
    result = dict(feeds)
    for axis in axes:
        if axis.symbol in sizes:
            result[axis.input] = _resized(result[axis.input], axis.axis, sizes[axis.symbol])
    return result


def _resized(values: Array, axis: int, size: int) -> Array:
    length = values.shape[axis]
    longer = np.arange(size) % length
    spread = np.linspace(0, length - 1, size).round().astype(np.int64)
    return np.take(values, longer if size >= length else spread, axis=axis)


def _known(axis: DynamicAxis, feeds: Arrays) -> DynamicAxis:
    if axis.input not in feeds or axis.axis >= feeds[axis.input].ndim:
        raise SettingsError(
            f"--dynamic {axis.input}={axis.axis}:{axis.symbol} names no axis of the inputs: they are "
            f"{shapes_text(feeds)}"
        )
    return axis


def _sequences(feeds: Arrays) -> Iterator[DynamicAxis]:
    tokens = [name for name, value in feeds.items() if value.ndim == 2 and value.dtype in (np.int64, np.int32)]
    common = len({feeds[name].shape[1] for name in tokens}) == 1
    for name in tokens:
        axis = DynamicAxis(name, 1, _SEQUENCE, required=False)
        yield axis if common else replace(axis, symbol=f"{name}_length")
