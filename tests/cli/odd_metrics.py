"""Metrics as users write them, and worse: what they return, raise, print, start and leave behind."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import io
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

Metric = Callable[[dict[str, np.ndarray], Any], Any]
WORK: dict[str, Metric] = {}
"""Those that give a score, whatever else they do."""
FAIL: dict[str, Metric] = {}
"""Those that give none."""
_CALLS = 0
_KEPT: list[object] = []


def works(metric: Metric) -> Metric:
    WORK[metric.__name__] = metric
    return metric


def fails(metric: Metric) -> Metric:
    FAIL[metric.__name__] = metric
    return metric


class Shouting:
    """Prints when it goes, which is when the interpreter does."""

    def __del__(self) -> None:
        os.write(1, b"NOISE from __del__\n")


class BadArray:
    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise SystemExit(0)


class BadText(Exception):  # noqa: N818
    def __str__(self) -> str:
        sys.exit(0)


class BadRepr(Exception):  # noqa: N818
    def __repr__(self) -> str:
        raise RuntimeError

    __str__ = __repr__


class NamedLikeNothing:
    def __repr__(self) -> str:
        raise RuntimeError


# What they return.


@works
def one_number(outputs: Any, labels: Any) -> Any:
    return 1.0


@works
def an_integer(outputs: Any, labels: Any) -> Any:
    return 1


@works
def a_truth(outputs: Any, labels: Any) -> Any:
    return True


@works
def one_per_sample(outputs: Any, labels: Any) -> Any:
    return np.ones(len(outputs["output"]), np.float16)


@works
def a_list(outputs: Any, labels: Any) -> Any:
    return [1] * len(outputs["output"])


@works
def no_dimension(outputs: Any, labels: Any) -> Any:
    return np.array(1.0)


@works
def below_zero(outputs: Any, labels: Any) -> Any:
    return -1.0 - np.abs(outputs["output"]).mean(axis=1)


@works
def changes_what_it_is_given(outputs: Any, labels: Any) -> Any:
    outputs["output"][...] = 0
    outputs.clear()
    return 1.0


@fails
def nothing(outputs: Any, labels: Any) -> Any:
    return None


@fails
def not_a_number(outputs: Any, labels: Any) -> Any:
    return float("nan")


@fails
def infinite(outputs: Any, labels: Any) -> Any:
    return -float("inf")


@fails
def one_is_no_number(outputs: Any, labels: Any) -> Any:
    return np.where(np.arange(len(outputs["output"])) == 3, np.nan, 1.0)


@fails
def a_text(outputs: Any, labels: Any) -> Any:
    return "0.9"


@fails
def bytes_of_it(outputs: Any, labels: Any) -> Any:
    return b"\xff"


@fails
def complex_one(outputs: Any, labels: Any) -> Any:
    return 1 + 1j


@fails
def a_dictionary(outputs: Any, labels: Any) -> Any:
    return {"top1": 0.9}


@fails
def an_empty_list(outputs: Any, labels: Any) -> Any:
    return []


@fails
def too_few(outputs: Any, labels: Any) -> Any:
    return [1.0, 1.0]


@fails
def two_dimensions(outputs: Any, labels: Any) -> Any:
    return np.ones((len(outputs["output"]), 2))


@fails
def a_ragged_list(outputs: Any, labels: Any) -> Any:
    return [[1.0], [1.0, 2.0]]


@fails
def a_generator(outputs: Any, labels: Any) -> Any:
    return (1.0 for _ in outputs["output"])


@fails
def an_integer_beyond_all(outputs: Any, labels: Any) -> Any:
    return 10**400


@fails
def a_date(outputs: Any, labels: Any) -> Any:
    return np.datetime64("2026-01-01")


@fails
def an_array_that_ends_the_process(outputs: Any, labels: Any) -> Any:
    return BadArray()


@fails
def an_object_without_a_text(outputs: Any, labels: Any) -> Any:
    return NamedLikeNothing()


@fails
def a_function(outputs: Any, labels: Any) -> Any:
    return one_number


async def coroutine(outputs: Any, labels: Any) -> Any:
    return 1.0


FAIL["coroutine"] = coroutine


def takes_nothing() -> Any:
    return 1.0


FAIL["takes_nothing"] = takes_nothing  # type: ignore[assignment]


@fails
def zero_once_and_one_later(outputs: Any, labels: Any) -> Any:
    global _CALLS
    _CALLS += 1
    return 1.0 if _CALLS < 2 else "rubbish"


# What they raise, and how they leave.


def _raises(name: str, error: Callable[[], BaseException]) -> None:
    def metric(outputs: Any, labels: Any) -> Any:
        raise error()

    metric.__name__ = name
    globals()[name] = FAIL[name] = metric


class _BaseError(BaseException):
    pass


_raises("raises_a_division", lambda: ZeroDivisionError("by nothing"))
_raises("raises_an_assertion", AssertionError)
_raises("raises_a_base_exception", lambda: _BaseError("base"))
_raises("raises_generator_exit", GeneratorExit)
_raises("raises_stop_iteration", StopIteration)
_raises("raises_memory_error", MemoryError)
_raises("raises_recursion_error", RecursionError)
_raises("raises_broken_pipe", BrokenPipeError)
_raises("raises_a_warning", lambda: UserWarning("careful"))
_raises("raises_a_text_that_exits", BadText)
_raises("raises_without_a_text", BadRepr)
_raises("raises_escapes", lambda: ValueError("\x1b]0;owned\x07\x1b[2J\x9b31m"))
_raises("raises_half_a_letter", lambda: ValueError("\udcff\ud800"))
_raises("raises_many_lines", lambda: ValueError("line\n" * 5000))
_raises("raises_a_group", lambda: KeyError(("x" * 100_000,)))
_raises("exits_with_0", lambda: SystemExit(0))
_raises("exits_with_3", lambda: SystemExit(3))
_raises("exits_with_a_text", lambda: SystemExit("bye"))
_raises("exits_without_a_code", SystemExit)


@fails
def quits(outputs: Any, labels: Any) -> Any:
    quit()


@fails
def ends_with_0(outputs: Any, labels: Any) -> Any:
    os._exit(0)


@fails
def ends_with_1(outputs: Any, labels: Any) -> Any:
    os._exit(1)


@fails
def hangs(outputs: Any, labels: Any) -> Any:
    while True:
        with contextlib.suppress(Exception):
            time.sleep(60)


@fails
def recurses(outputs: Any, labels: Any) -> Any:
    return recurses(outputs, labels)


# What they print.


@works
def prints(outputs: Any, labels: Any) -> Any:
    print("NOISE", flush=True)
    print("NOISE without an end of line", end="")
    return 1.0


@works
def prints_where_python_began(outputs: Any, labels: Any) -> Any:
    sys.__stdout__.write("NOISE left in a buffer")
    return 1.0


@works
def prints_from_c(outputs: Any, labels: Any) -> Any:
    ctypes.CDLL(None).printf(b"NOISE left in a buffer of C\n")
    return 1.0


@works
def prints_by_a_program(outputs: Any, labels: Any) -> Any:
    subprocess.run([sys.executable, "-c", "print('NOISE')"], check=True)
    return 1.0


@works
def prints_by_a_program_that_outlives_it(outputs: Any, labels: Any) -> Any:
    subprocess.Popen(["/bin/sh", "-c", "sleep 0.3; echo NOISE"])
    return 1.0


@works
def prints_to_a_descriptor_of_its_own(outputs: Any, labels: Any) -> Any:
    with os.fdopen(os.dup(1), "w") as stream:
        stream.write("NOISE")
    _KEPT.append(os.fdopen(os.dup(1), "w"))
    return 1.0


@works
def prints_when_the_interpreter_goes(outputs: Any, labels: Any) -> Any:
    atexit.register(print, "NOISE")
    atexit.register(os.write, 1, b"NOISE")
    _KEPT.append(Shouting())
    weakref.finalize(_KEPT[-1], print, "NOISE")
    return 1.0


@works
def logs(outputs: Any, labels: Any) -> Any:
    logging.basicConfig(stream=sys.stdout, level=0)
    logging.getLogger().critical("NOISE")
    return 1.0


@works
def warns(outputs: Any, labels: Any) -> Any:
    warnings.warn("NOISE", stacklevel=1)
    return 1.0


@works
def prints_no_utf8(outputs: Any, labels: Any) -> Any:
    sys.stdout.buffer.write(b"NOISE \xff\xfe")
    return 1.0


@works
def moves_standard_output(outputs: Any, labels: Any) -> Any:
    sys.stdout = sys.stderr = io.StringIO()
    return 1.0


@works
def closes_standard_output(outputs: Any, labels: Any) -> Any:
    sys.stdout.close()
    return 1.0


@works
def closes_descriptor_1(outputs: Any, labels: Any) -> Any:
    os.close(1)
    return 1.0


# What they start and change.


@works
def prints_from_a_thread_for_a_while(outputs: Any, labels: Any) -> Any:
    def talk() -> None:
        for _ in range(300):
            print("NOISE")
            time.sleep(0.01)

    threading.Thread(target=talk).start()
    return 1.0


@works
def prints_from_a_thread_for_ever(outputs: Any, labels: Any) -> Any:
    def talk() -> None:
        while True:
            with contextlib.suppress(Exception):
                print("NOISE")
            time.sleep(0.001)

    threading.Thread(target=talk, daemon=True).start()
    return 1.0


@works
def fails_in_a_thread(outputs: Any, labels: Any) -> Any:
    thread = threading.Thread(target=sys.exit, args=(0,))
    other = threading.Thread(target=int, args=("no number",))
    for one in (thread, other):
        one.start()
        one.join()
    return 1.0


@works
def forks_and_waits(outputs: Any, labels: Any) -> Any:
    child = os.fork()
    if not child:
        print("NOISE", flush=True)
        os._exit(7)
    os.waitpid(child, 0)
    return 1.0


@works
def returns_twice(outputs: Any, labels: Any) -> Any:
    os.fork()
    return 1.0


@works
def raises_in_the_child(outputs: Any, labels: Any) -> Any:
    if not os.fork():
        raise SystemExit(0)
    return 1.0


@works
def goes_elsewhere(outputs: Any, labels: Any) -> Any:
    os.chdir("/")
    return 1.0


@works
def minds_no_signal(outputs: Any, labels: Any) -> Any:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    return 1.0


@works
def changes_what_numpy_does_about_errors(outputs: Any, labels: Any) -> Any:
    np.seterr(all="raise")
    return 1.0


@works
def turns_warnings_into_errors(outputs: Any, labels: Any) -> Any:
    warnings.simplefilter("error")
    return 1.0
