"""Padded sequences: how long every row really is, and what may be cut where it ends.

A model computes padding like anything else: sentences of 15 tokens padded to 64 cost four times their worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trt_mpq.errors import DataError
from trt_mpq.runtime.base import Array
from trt_mpq.types import TensorSpec

_ANONYMOUS = "?"
"""A dynamic dimension without a name of its own."""

_BLOCK = 4096
"""Rows of the mask that are read at once."""


class Column(Protocol):
    """The values of one model input, read lazily: `column[rows]` is an array [n, ...].

    A numpy array and a memory map are columns.
    """

    def __len__(self) -> int:
        """Number of rows."""

    def __getitem__(self, rows: NDArray[np.intp], /) -> Array:
        """The rows with these numbers."""


@dataclass(frozen=True, eq=False)
class Padding:
    """Where rows end, for data padded behind its real positions.

    Attributes:
        lengths: Position behind the last real one, per row [rows], at least 1.
        axes: Input name to the axes that count positions.
        width: Size of those axes as the data is stored.
    """

    lengths: NDArray[np.intp]
    axes: Mapping[str, tuple[int, ...]]
    width: int

    @classmethod
    def from_mask(
        cls, mask: str, columns: Mapping[str, Column], inputs: tuple[TensorSpec, ...], source: str
    ) -> Padding | None:
        """The padding that input `mask` [rows, positions] tells by its zeros.

        Positions are every axis that has the mask's symbolic name for its axis 1; None if the model fixes that axis or
        has no name for it.

        Raises:
            DataError: `mask` is no input, or has other than two axes.
        """
        spec = next((spec for spec in inputs if spec.name == mask), None)
        if spec is None or len(spec.shape) != 2:
            found = "is no input of the model" if spec is None else f"has {len(spec.shape)} axes"
            raise DataError(f"{source}: `trim` names {mask!r}, which {found}: it needs a mask [batch, positions]")
        positions = spec.shape[1]
        if isinstance(positions, int) or positions == _ANONYMOUS:
            return None
        axes = {
            other.name: tuple(axis for axis, size in enumerate(other.shape) if axis and size == positions)
            for other in inputs
        }
        lengths = _lengths(columns[mask])
        return cls(lengths, axes, columns[mask][np.arange(1)].shape[1])

    def lengths_of(self, samples: int, rows: int) -> NDArray[np.intp]:
        """Length of each of the first `samples` samples: that of the longest of its `rows` rows."""
        return np.asarray(self.lengths[: samples * rows].reshape(samples, rows).max(axis=1))

    def cut_feeds(self, feeds: Mapping[str, Array], length: int) -> dict[str, Array]:
        """Input name to array [n, ...] with only the first `length` positions."""
        return {name: _cut(array, self.axes.get(name, ()), length) for name, array in feeds.items()}

    def cut_labels(self, labels: Array, length: int) -> Array:
        """Labels with only the first `length` positions, if they are one per position, [n, positions]."""
        return _cut(labels, (1,) if labels.ndim == 2 and labels.shape[1] == self.width else (), length)


def _lengths(mask: Column) -> NDArray[np.intp]:
    blocks = (np.arange(start, min(start + _BLOCK, len(mask))) for start in range(0, len(mask), _BLOCK))
    return np.concatenate([_ends(mask[rows]) for rows in blocks])


def _ends(mask: Array) -> NDArray[np.intp]:
    places = np.arange(1, mask.shape[1] + 1)
    return np.asarray(np.where(mask != 0, places, 1).max(axis=1, initial=1))


def _cut(array: Array, axes: tuple[int, ...], length: int) -> Array:
    return array[tuple(slice(length if axis in axes else None) for axis in range(array.ndim))]
