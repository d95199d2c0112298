"""Columns of data that are made while they are read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trt_mpq.dataset.padding import Column
from trt_mpq.dataset.recipe import Input
from trt_mpq.runtime.base import Array


@dataclass(frozen=True)
class Prepared:
    """A column that preprocesses what it reads."""

    raw: Column
    rows: NDArray[np.intp]
    recipe: Input
    where: str

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: NDArray[np.intp]) -> Array:
        return self.recipe.prepare(self.raw[self.rows[rows]], self.where)


@dataclass(frozen=True)
class Zeros:
    """Zeros, shaped like another column."""

    like: Column

    def __len__(self) -> int:
        return len(self.like)

    def __getitem__(self, rows: NDArray[np.intp]) -> Array:
        return np.zeros(self.like[rows].shape, np.uint8)
