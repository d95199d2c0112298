"""Threads of this process, for work that lets go of the interpreter's lock, as running a graph does."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item], ways: int) -> Generator[Result, None, None]:
    """What `work` makes of every item, in their order, by so many threads.

    Items are taken here, no more ahead of what is asked for than there are threads. Where the iteration ends early,
    what is at work is waited for.

    Raises:
        Exception: What `work` raised, in the place of its result.
    """
    if ways == 1:
        yield from map(work, items)
        return
    begun: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(ways) as threads:
        try:
            for item in items:
                begun.append(threads.submit(work, item))
                if len(begun) > ways:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for future in begun:
                future.cancel()
