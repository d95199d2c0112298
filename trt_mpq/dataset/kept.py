"""What is asked for again and again: kept in memory if it is small, else made again each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

KEPT_BYTES = 1 << 30
"""Model outputs up to this size are kept; those of a language model are often larger."""


class Kept(Generic[T]):
    """Items that are the same every time they are iterated over.

    Args:
        make: Makes them anew.
        size_of: Bytes of an item.
        limit: They are kept from the first complete iteration on unless they are more bytes than this
            (default: `KEPT_BYTES`).
    """

    def __init__(self, make: Callable[[], Iterator[T]], size_of: Callable[[T], int], limit: int | None = None) -> None:
        self._make, self._size_of = make, size_of
        self._limit = KEPT_BYTES if limit is None else limit
        self._kept: list[T] | None = None

    def __iter__(self) -> Iterator[T]:
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[T] = []
        size = 0
        for item in self._make():
            size += self._size_of(item)
            if size <= self._limit:
                kept.append(item)
            yield item
        if size <= self._limit:
            self._kept = kept
