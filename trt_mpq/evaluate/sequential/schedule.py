"""In which order samples are drawn, and after how many a test looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_T = TypeVar("_T", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Schedule:
    """Portions of the evaluation set.

    Attributes:
        order: Numbers of all samples [N] in the order in which they are drawn; None is the order of the data.
        ends: How many samples are drawn by the end of each portion, ascending; the last is N.
    """

    order: NDArray[np.intp] | None
    ends: tuple[int, ...]

    def draw(self, values: NDArray[_T]) -> NDArray[_T]:
        """`values` [N, ...] of the samples, from the order of the data into that of drawing."""
        return values if self.order is None else values[self.order]

    def in_data(self, drawn: NDArray[np.intp]) -> NDArray[np.intp]:
        """Numbers in the data of the samples that are `drawn` [n] in the order of drawing."""
        return drawn if self.order is None else self.order[drawn]

    @property
    def looks(self) -> tuple[int, ...]:
        """After how many samples a test may stop early."""
        return self.ends[:-1]


def data_order(count: int) -> Schedule:
    """All samples in one portion, in the order of the data."""
    return Schedule(None, (count,))


def growing_portions(count: int, seed: int, *, first: int, growth: float, multiple: int) -> Schedule:
    """A random order in portions that grow with what has been drawn, so that few looks cover many samples.

    Args:
        count: Number of samples N.
        seed: Seed of the order.
        first: Samples in the first portion, at least.
        growth: Samples in a further portion per sample drawn before.
        multiple: Every portion but the last is a multiple of so many samples: what runs at once.
    """
    ends: list[int] = []
    end = _rounded_up(first, multiple)
    while end < count:
        ends.append(end)
        end += _rounded_up(growth * end, multiple)
    return Schedule(np.random.default_rng(seed).permutation(count), (*ends, count))


def _rounded_up(samples: float, multiple: int) -> int:
    return max(1, int(-(-samples // multiple))) * multiple
