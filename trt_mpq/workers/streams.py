"""Standard output holds the result of a command and nothing else."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

_RESULTS: list[TextIO] = []
"""Standard output, if this process is a command's alone."""


def take_standard_output() -> None:
    """Make this process a command's alone: of all that prints, `sys.stdout` alone reaches standard output.

    What compiled code and other programs print goes to standard error.
    """
    sys.stdout.flush()
    sys.stdout = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding)
    os.dup2(2, 1)
    _RESULTS[:] = [sys.stdout]


def results() -> TextIO:
    """Where the result of a command goes."""
    return _RESULTS[-1] if _RESULTS else sys.stdout


@contextlib.contextmanager
def kept_for_results() -> Iterator[None]:
    """Keep standard output for what is written to `results()`; what else prints in the block does so to standard error.

    In a process that is a command's alone that goes on after the block: the user's code may leave threads behind.
    """
    if _RESULTS:
        sys.stdout = lent(sys.stderr)
        yield
        return
    _RESULTS.append(sys.stdout)
    try:
        with contextlib.redirect_stdout(lent(sys.stderr)):
            yield
    finally:
        _RESULTS.pop()


def lent(stream: TextIO) -> TextIO:
    """`stream` for code that may close what it is given."""
    return cast("TextIO", _Lent(stream))


class _Lent:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None:
        """Leave the stream open for its owner."""


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
