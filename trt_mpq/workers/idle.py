"""Ends a process that a library has stopped computing in: it waits for a thread of its own that is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from os import _exit

EXIT_CODE = 75
"""Of a process that was ended so."""
_LEAST_S = 0.01
"""Processor time a second below which nothing is computed; watching takes less."""


@contextmanager
def ended_when_idle(seconds: int) -> Iterator[None]:
    """Inside the block this process ends, with `EXIT_CODE`, once it has used no processor for `seconds` on end.

    Only for code that never waits for anything else, and releases Python's lock.
    """
    done = threading.Event()
    threading.Thread(target=_watch, args=(done, seconds), daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _watch(done: threading.Event, seconds: int) -> None:
    used, idle = time.process_time(), 0
    while not done.wait(1):  # in steps, so that the time of a process that was stopped does not count
        before, used = used, time.process_time()
        idle = 0 if used - before >= _LEAST_S else idle + 1
        if idle >= seconds:
            _exit(EXIT_CODE)
