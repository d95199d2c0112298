"""The user's own Python, named `module:attribute`: a metric, a factory of a network.

A Python program may hand over functions that have no such name: they are kept by one that only this process knows.

It is imported and called here alone. Whatever it does, raise anything, end the process or never return, becomes one
error, and what it prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from trt_mpq.errors import TrtMpqError
from trt_mpq.workers.streams import lent, standard_output_on

_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_AGAIN_S = 1.0
"""A time limit strikes again after this, for code that caught it."""
_SESSION = "session"
"""What stands in place of a module for functions that were handed over."""
_GIVEN: dict[str, Callable[..., Any]] = {}
"""Functions that were handed over, by name: as `sys.modules`, it lasts as long as the process."""


class UserCodeError(Exception):
    """What the user's code did, as the end of a sentence that begins with its name."""


class UserCodeTooSlow(UserCodeError):  # noqa: N818 - an error by its base
    """It took longer than it may."""


class _TimeUp(BaseException):
    """The time is up; no `except Exception` of the user's catches it."""


class _Ended(BaseException):
    """A call that would end the process without a word."""


def is_reference(text: str) -> bool:
    """Whether `text` reads as `module:attribute`; a path with a suffix, or of a drive, does not."""
    return _REFERENCE.fullmatch(text) is not None


def is_of_this_process(reference: str) -> bool:
    """Whether `reference` names a function that was handed over, which no other process knows."""
    return reference.partition(":")[0] == _SESSION


def title_of(reference: str) -> str:
    """What a reader is told of `reference`: of a function that was handed over, its own name alone."""
    return reference.partition(":")[2].rpartition("_")[0] if is_of_this_process(reference) else reference


def given_functions() -> Mapping[str, Callable[..., Any]]:
    """The functions that were handed over, by name."""
    return _GIVEN


def keep_function(name: str, function: Callable[..., Any]) -> str:
    """Keep a function that no other process can import; the reference that finds it is made of `name`."""
    reference = f"{_SESSION}:{name}"
    _GIVEN[reference] = function
    return reference


def import_user_function(reference: str, returns: str) -> Callable[..., Any]:
    """The function that `module:attribute` names, also looked for in the current directory.

    Args:
        reference: Its name.
        returns: What it has to return or be of, for the error.

    Raises:
        UserCodeError: It cannot be imported, or is no function.
    """
    module, _, attribute = reference.partition(":")
    if is_of_this_process(reference):
        return _given(reference)
    try:
        with running_user_code():
            found = getattr(importlib.import_module(module), attribute)
    except UserCodeError as error:
        raise UserCodeError(
            f"cannot be imported (it {error}): it must be module:function, found on the Python path or in the current "
            "directory"
        ) from error
    if not callable(found):
        raise UserCodeError(f"is of type {type(found).__name__}: it must be a function {returns}")
    return found  # type: ignore[no-any-return]


def _given(reference: str) -> Callable[..., Any]:
    try:
        return _GIVEN[reference]
    except KeyError:
        raise UserCodeError(
            "was a function of a Python session, which no other process knows: give it again there, or put it into a "
            "module and name it module:function"
        ) from None


@contextlib.contextmanager
def running_user_code(limit_s: float | None = None) -> Iterator[None]:
    """Let the user's code run in the block, and import from the current directory.

    Args:
        limit_s: Seconds that it may take; only the main thread can bound them.

    Raises:
        UserCodeError: It raised something or tried to end the process. Ctrl-C and errors of this program pass.
        UserCodeTooSlow: It took too long.
    """
    try:
        with (
            _one_return(), _left_as_found(), _importable_current_folder(), _printed_to_stderr(), _no_silent_end(),
            _time_limit(limit_s),
        ):  # fmt: skip
            yield
    except (KeyboardInterrupt, TrtMpqError):
        raise
    except _TimeUp as error:
        raise UserCodeTooSlow(f"took longer than {limit_s:g} s") from error
    except _Ended as error:
        raise UserCodeError(f"called {error}") from error
    except SystemExit as error:
        raise UserCodeError(f"called sys.exit({_text(error.code, repr)})") from error
    except BaseException as error:
        raise UserCodeError(f"raised {type(error).__name__}: {_text(error)}") from error


def _text(error: object, written: Callable[[object], str] = str) -> str:
    try:
        return written(error)
    except KeyboardInterrupt:
        raise
    except BaseException as broken:  # __str__ is the user's code too
        return f"an error whose text cannot be had ({type(broken).__name__})"


@contextlib.contextmanager
def _one_return() -> Iterator[None]:
    """End processes that the block forked and that come out of it: the run goes on in this one alone."""
    exit_now, process = os._exit, os.getpid()
    try:
        yield
    finally:
        if os.getpid() != process:
            exit_now(1)


@contextlib.contextmanager
def _left_as_found() -> Iterator[None]:
    """Put back what the run goes by: the working directory, and what NumPy does about errors."""
    folder = Path.cwd()
    try:
        with np.errstate():
            yield
    finally:
        os.chdir(folder)


@contextlib.contextmanager
def _importable_current_folder() -> Iterator[None]:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the user's code may have removed it
            sys.path.remove(folder)


@contextlib.contextmanager
def _printed_to_stderr() -> Iterator[None]:
    """Send what the block prints to standard error, that of compiled code included: it is no result of a command."""
    lent_stream = lent(sys.stderr)
    with standard_output_on(2), contextlib.redirect_stdout(lent_stream), contextlib.redirect_stderr(lent_stream):
        yield


@contextlib.contextmanager
def _no_silent_end() -> Iterator[None]:
    """Raise where the block calls `os._exit`, which would end the run with whatever code it likes.

    Processes that the block forks end as they are used to.
    """
    exit_now, process = os._exit, os.getpid()

    def end(status: int) -> NoReturn:
        if os.getpid() != process:
            exit_now(status)
        raise _Ended(f"os._exit({status!r})")

    os._exit = end
    try:
        yield
    finally:
        os._exit = exit_now


@contextlib.contextmanager
def _time_limit(seconds: float | None) -> Iterator[None]:
    if seconds is None:
        yield
        return

    def strike(*_: object) -> None:
        raise _TimeUp

    before = signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
