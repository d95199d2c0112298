"""An iterable that keeps its items in memory if they are small, and makes them again each time if not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

_T = TypeVar("_T")

CACHE_BYTES = 1 << 30
"""Model outputs up to this size are kept; those of a language model are often larger."""


class CachedIterable(Generic[_T]):
    """Items that are the same every time they are iterated over.

    Args:
        make: Makes them anew.
        size_of: Bytes of an item.
        limit: They are kept from the first complete iteration on unless they are more bytes than this
            (default: `CACHE_BYTES`).
    """

    def __init__(
        self, make: Callable[[], Iterator[_T]], size_of: Callable[[_T], int], limit: int | None = None
    ) -> None:
        self._make, self._size_of = make, size_of
        self._limit = CACHE_BYTES if limit is None else limit
        self._cached: list[_T] | None = None

    def __iter__(self) -> Iterator[_T]:
        if self._cached is not None:
            yield from self._cached
            return
        cached: list[_T] = []
        size = 0
        for item in self._make():
            size += self._size_of(item)
            if size <= self._limit:
                cached.append(item)
            yield item
        if size <= self._limit:
            self._cached = cached
