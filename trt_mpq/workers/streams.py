"""Standard output holds the result of a command and nothing else."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def standard_output_on(descriptor: int) -> Iterator[None]:
    """Send what the block prints to an open file `descriptor`, that of compiled code included."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(descriptor, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextlib.contextmanager
def nothing_printed() -> Iterator[None]:
    """Drop what compiled code prints in the block."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        with standard_output_on(nowhere):
            yield
    finally:
        os.close(nowhere)
