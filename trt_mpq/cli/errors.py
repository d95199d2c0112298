"""The one place that turns a failure into a sentence and an exit code.

======  ==========================================================
code    meaning
======  ==========================================================
0       done
1       a bug of ours (`TRT_MPQ_DEBUG=1` shows the traceback)
2       the user can act on it; usage errors of Typer included
129     the terminal went away (SIGHUP)
130     interrupted from the keyboard
141     the reader of the output went away
143     stopped (SIGTERM), as Slurm and Kubernetes do
======  ==========================================================
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import ParamSpec

import typer

from trt_mpq.errors import TrtMpqError
from trt_mpq.workers.streams import kept_for_results, results

_DEBUG_VARIABLE = "TRT_MPQ_DEBUG"
_LONGEST = 1000
"""Characters of a message; what it quotes may have any length."""
_P = ParamSpec("_P")


class Stopped(KeyboardInterrupt):
    """A signal asks the process to stop, which it does as for Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = signal.Signals(number)


def stop_on_signals() -> None:
    """Let SIGTERM and SIGHUP stop the command as Ctrl-C does, unless they are ignored, as nohup has it."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _stop)


def _stop(number: int, _: object) -> None:
    raise Stopped(number)


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """End the block, where the reader of its output went away, as a shell would: without a word, with exit code 141."""
    try:
        yield
    except (BrokenPipeError, SystemExit) as error:
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        _discard_output()  # Rich has done so, and ends with exit code 1
        raise typer.Exit(141) from None


def guarded(command: Callable[_P, None]) -> Callable[_P, None]:
    """`command`, ending every failure with one line on standard error and an exit code."""

    @wraps(command)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            with reader_may_leave(), kept_for_results():
                command(*args, **kwargs)
                results().flush()
        except (typer.Exit, typer.Abort):
            raise
        except (Exception, KeyboardInterrupt) as error:
            code, sentence = _explain(error)
            if os.environ.get(_DEBUG_VARIABLE) == "1" or kwargs.get("verbose"):
                traceback.print_exc()
            with suppress(OSError):  # the terminal may be gone
                typer.echo(sentence, err=True)
            raise typer.Exit(code) from error

    return wrapper


def _explain(error: BaseException) -> tuple[int, str]:
    """Exit code and message, always one line, for `error`."""
    if isinstance(error, Stopped):
        return 128 + error.signal, f"stopped by {error.signal.name}; run the same command to resume"
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted; run the same command to resume"
    if isinstance(error, TrtMpqError):
        return 2, f"error: {_one_line(error)}"
    if isinstance(error, MemoryError):
        return 2, "error: the memory is exhausted: choose a smaller --batch or fewer samples"
    if isinstance(error, OSError):
        return 2, f"error: {_os_error(error)}"
    what = f"{type(error).__name__}: {_one_line(error)}".rstrip(": ")
    return 1, f"sorry, this is a bug in trt-mpq ({what}): run again with {_DEBUG_VARIABLE}=1 and report the traceback"


def _one_line(error: BaseException) -> str:
    from trt_mpq.report.wording import printable

    line = " ".join(printable(str(error)).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def _os_error(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    return f"the operating system says: {error.strerror or _one_line(error) or type(error).__name__}{where}"


def _discard_output() -> None:
    # Or the interpreter complains when it flushes standard output on exit (docs.python.org, signal, SIGPIPE).
    os.dup2(os.open(os.devnull, os.O_WRONLY), results().fileno())
