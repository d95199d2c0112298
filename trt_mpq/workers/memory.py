"""A bound on the memory that a block may take: what a file of a few bytes makes a library do is not known before."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STATM = Path("/proc/self/statm")
_DATA = 5
"""The field that counts pages of data, see proc(5)."""


@contextmanager
def limited_memory(limit: int) -> Iterator[None]:
    """Inside the block this process may allocate `limit` bytes beside what it has; only Linux can bound that.

    Raises:
        MemoryError: It wanted more, as far as what runs in the block says so.
    """
    if not _STATM.exists():
        yield
        return
    pages = int(_STATM.read_text().split()[_DATA])
    before = resource.getrlimit(resource.RLIMIT_DATA)
    bounds = (pages * resource.getpagesize() + limit, *(bound for bound in before if bound != resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_DATA, (min(bounds), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
