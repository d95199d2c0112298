"""The one place that turns a failure into a sentence and an exit code.

======  ==========================================================
code    meaning
======  ==========================================================
0       done
1       a bug of ours (`TRT_MPQ_DEBUG=1` shows the traceback)
2       the user can act on it; usage errors of Typer included
130     interrupted from the keyboard
141     the reader of the output went away
======  ==========================================================
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import typer

from trt_mpq.errors import TrtMpqError

_DEBUG_VARIABLE = "TRT_MPQ_DEBUG"
_P = ParamSpec("_P")


def guarded(command: Callable[_P, None]) -> Callable[_P, None]:
    """`command`, ending every failure with one line on standard error and an exit code."""

    @wraps(command)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except (typer.Exit, typer.Abort):
            raise
        except BrokenPipeError:
            _discard_output()
            raise typer.Exit(141) from None
        except (Exception, KeyboardInterrupt) as error:
            code, sentence = _explain(error)
            if os.environ.get(_DEBUG_VARIABLE) == "1":
                traceback.print_exc()
            typer.echo(sentence, err=True)
            raise typer.Exit(code) from error

    return wrapper


def _explain(error: BaseException) -> tuple[int, str]:
    """Exit code and message, always one line, for `error`."""
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
    return " ".join(str(error).split())


def _os_error(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    return f"the operating system says: {error.strerror or _one_line(error) or type(error).__name__}{where}"


def _discard_output() -> None:
    # Or the interpreter complains when it flushes standard output on exit (docs.python.org, signal, SIGPIPE).
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
