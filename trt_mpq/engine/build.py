"""Builds an engine in a process of its own, so that TensorRT can crash or hang without taking the run with it."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from trt_mpq.artifacts.files import cannot_write
from trt_mpq.errors import RunFolderError
from trt_mpq.runtime.tensorrt.logger import errors_in
from trt_mpq.runtime.tensorrt.request import BuildRequest, layers_file, log_file
from trt_mpq.types.engine import BuildStatus, EngineBuild
from trt_mpq.workers import idle
from trt_mpq.workers.base import WorkerDied
from trt_mpq.workers.processes import done_by_a_process

_SCRATCH = ".build-"
_NO_MEMORY = ("std::bad_alloc", "Cannot allocate memory", "Resource temporarily unavailable")
"""In errors of a compiler that was refused memory, or a thread for want of it."""


def _with_tensorrt(request: BuildRequest) -> EngineBuild:
    from trt_mpq.runtime.tensorrt.builder import build

    return build(request)


def build_engine(
    request: BuildRequest, folder: Path, build: Callable[[BuildRequest], EngineBuild] = _with_tensorrt
) -> EngineBuild:
    """Build one engine; files of an earlier build of that name go first, and new ones appear only when complete.

    Args:
        request: What to build; of its engine's path only the file name counts.
        folder: Where the engine, its layers and TensorRT's log go, one build at a time; created if absent.
        build: Does the work in that process; a function that it can import.

    Returns:
        The outcome: built, refused by TensorRT, crashed, out of memory, or stopped after the timeout of the options.

    Raises:
        MissingDependencyError: tensorrt or pycuda is not installed.
        RuntimeFailure: TensorRT cannot be loaded or finds no GPU.
        SettingsError: This TensorRT cannot do what the options say.
        RunFolderError: The folder cannot be written.
        RuntimeError: The process failed through a defect of this program.
    """
    engine = folder / Path(request.engine).name
    started = time.monotonic()
    with _scratch(folder) as scratch:
        for old in (engine, layers_file(engine), log_file(engine)):
            old.unlink(missing_ok=True)
        made = scratch / engine.name
        try:
            found = _built(replace(request, engine=str(made.absolute())), build)
        finally:
            if log_file(made).exists():
                log_file(made).replace(log_file(engine))
        if found.layers:
            layers_file(made).replace(layers_file(engine))
        if found.built:
            made.replace(engine)
    return replace(found, seconds=time.monotonic() - started)


def _built(request: BuildRequest, build: Callable[[BuildRequest], EngineBuild]) -> EngineBuild:
    log, options = log_file(Path(request.engine)), request.options
    name = "compile_timeout_s" if request.capabilities else "build_timeout_s"
    timeout_s: float = getattr(options, name)
    try:
        found: EngineBuild = done_by_a_process(partial(_this, build), request, log, timeout_s)
    except WorkerDied as death:
        if request.capabilities and death.code == idle.EXIT_CODE:
            return _failed(request, BuildStatus.CRASHED, _idle(request))
        return _failed(request, BuildStatus.CRASHED, _death(death.code))
    except TimeoutError:
        return _failed(request, BuildStatus.TIMED_OUT, f"was stopped after {timeout_s:g} s ({name})")
    except MemoryError:
        return _out_of_memory(request)
    limited = (
        request.capabilities and not found.built and any(sign in error for error in found.errors for sign in _NO_MEMORY)
    )
    return _out_of_memory(request) if limited else found


def _out_of_memory(request: BuildRequest) -> EngineBuild:
    limit = f" at the limit of {request.memory_limit_mib} MiB (compile_memory_mib)"
    ending = f"ran out of memory{limit if request.capabilities else ''}"
    return _failed(request, BuildStatus.OUT_OF_MEMORY, ending)


def _idle(request: BuildRequest) -> str:
    likely = f"which is likely the limit of {request.memory_limit_mib} MiB (compile_memory_mib)"
    return f"stopped computing without an end, {likely}"


def _this(work: Callable[[BuildRequest], EngineBuild]) -> Callable[[BuildRequest], EngineBuild]:
    return work


def _failed(request: BuildRequest, status: BuildStatus, ending: str) -> EngineBuild:
    said, doing = errors_in(log_file(Path(request.engine))), "compilation" if request.capabilities else "build"
    last = f"; TensorRT's last error was: {said[-1]}" if said else ""
    reason = f"the {doing} of {Path(request.onnx).name} {ending}{last}"
    return EngineBuild(status, request.typing, 0.0, errors=said, reason=reason)


def _death(code: int) -> str:
    if code >= 0:
        return f"ended without a result, with exit code {code}"
    if -code == signal.SIGKILL:
        return "was killed (SIGKILL), which the system does when memory runs out"
    return f"crashed with {signal.Signals(-code).name}"


@contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    """A folder for the process, on the file system the results move to; folders of builds that were killed go."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for abandoned in parent.glob(f"{_SCRATCH}*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        folder = tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=parent)
    except OSError as error:
        raise RunFolderError(cannot_write(parent, error)) from error
    with folder as name:
        yield Path(name)
