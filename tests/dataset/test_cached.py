"""Sequences that are made once if they are small, and made again if not."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest

from trt_mpq.dataset.cached import CachedIterable


class Source:
    def __init__(self, sizes: list[int]) -> None:
        self.sizes, self.made = sizes, 0

    def __call__(self) -> Iterator[tuple[int, int]]:
        for place, size in enumerate(self.sizes):
            self.made += 1
            yield place, size


@pytest.mark.parametrize(("limit", "made"), [(5, 9), (6, 3), (100, 3)])
def test_items_are_made_once_up_to_the_limit(limit: int, made: int) -> None:
    source = Source([1, 2, 3])
    kept = CachedIterable(source, lambda item: item[1], limit)
    assert [list(kept) for _ in range(3)] == [[(0, 1), (1, 2), (2, 3)]] * 3
    assert source.made == made


def test_an_iteration_that_was_left_keeps_nothing() -> None:
    source = Source([1, 2, 3])
    kept = CachedIterable(source, lambda item: item[1])
    assert list(islice(kept, 2)) == [(0, 1), (1, 2)]
    assert len(list(kept)) == 3
    assert source.made == 5


def test_nothing_is_something_to_keep() -> None:
    kept = CachedIterable(Source([]), lambda item: item[1])
    assert list(kept) == list(kept) == []
