"""Builds an engine in a child process, so that TensorRT can crash or hang without taking the run with it."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from trt_mpq import errors
from trt_mpq.artifacts.files import cannot_write, from_json, to_stored_json, write_text
from trt_mpq.engine.worker import Outcome
from trt_mpq.errors import RunFolderError, TrtMpqError
from trt_mpq.runtime.tensorrt.logger import errors_in
from trt_mpq.runtime.tensorrt.request import BuildRequest, layers_file, log_file
from trt_mpq.types.engine import BuildStatus, EngineBuild

WORKER = (sys.executable, "-m", "trt_mpq.engine.worker")
_SCRATCH = ".build-"


def build_engine(request: BuildRequest, folder: Path, worker: Sequence[str] = WORKER) -> EngineBuild:
    """Build one engine; files of an earlier build of that name go first, and new ones appear only when complete.

    Args:
        request: What to build; of its engine's path only the file name counts.
        folder: Where the engine, its layers and TensorRT's log go; created if absent.
        worker: Command that takes the paths of a request and of the outcome to write.

    Returns:
        The outcome: built, refused by TensorRT, crashed, or stopped after the timeout of the options.

    Raises:
        MissingDependencyError: tensorrt or pycuda is not installed.
        RuntimeFailure: TensorRT cannot be loaded or finds no GPU.
        SettingsError: This TensorRT cannot do what the options say.
        RunFolderError: The folder cannot be written.
        RuntimeError: The child failed through a defect of this program.
    """
    engine = folder / Path(request.engine).name
    started = time.monotonic()
    with _scratch(folder) as scratch:
        for old in (engine, layers_file(engine), log_file(engine)):
            old.unlink(missing_ok=True)
        made = scratch / engine.name
        try:
            build = _built(replace(request, engine=str(made.absolute())), scratch, worker)
        finally:
            if log_file(made).exists():
                log_file(made).replace(log_file(engine))
        if build.built:
            layers_file(made).replace(layers_file(engine))
            made.replace(engine)
    return replace(build, seconds=time.monotonic() - started)


def _built(request: BuildRequest, scratch: Path, worker: Sequence[str]) -> EngineBuild:
    log, outcome = log_file(Path(request.engine)), scratch / "outcome.json"
    write_text(scratch / "request.json", to_stored_json(request, BuildRequest))
    code = _run([*worker, str(scratch / "request.json"), str(outcome)], log, request.options.build_timeout_s)
    if not outcome.exists():  # a process that fails or hangs only after it wrote its outcome has done its work
        if code is None:
            reason = f"was stopped after {request.options.build_timeout_s:g} s (build_timeout_s)"
            return _failed(request, BuildStatus.TIMED_OUT, reason)
        return _failed(request, BuildStatus.CRASHED, _death(code))
    result = from_json(outcome.read_bytes(), Outcome)
    if result.build is not None:
        return result.build
    if not result.error:
        raise RuntimeError(f"the engine build failed in its process:\n{result.message}")
    raise _error(result)


def _run(command: Sequence[str], log: Path, timeout_s: float) -> int | None:
    """Exit code of `command`, None if it took too long; what it and the libraries in it print goes to `log`."""
    with log.open("ab") as printed:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed, start_new_session=True
        )
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        finally:  # also when the user interrupts; the group is the child's own, with all it started
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _failed(request: BuildRequest, status: BuildStatus, ending: str) -> EngineBuild:
    said = errors_in(log_file(Path(request.engine)))
    last = f"; TensorRT's last error was: {said[-1]}" if said else ""
    reason = f"the build of {Path(request.onnx).name} {ending}{last}"
    return EngineBuild(status, request.typing, 0.0, errors=said, reason=reason)


def _death(code: int) -> str:
    if code >= 0:
        return f"ended without a result, with exit code {code}"
    if -code == signal.SIGKILL:
        return "was killed (SIGKILL), which the system does when memory runs out"
    return f"crashed with {signal.Signals(-code).name}"


def _error(outcome: Outcome) -> TrtMpqError:
    """The child's error; its constructor may take other things than the message, so it is passed by."""
    kind: type[TrtMpqError] = getattr(errors, outcome.error)
    return kind.__new__(kind, outcome.message)


@contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    """A folder for the child, on the file system the results move to; folders of builds that were killed go."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for old in parent.glob(f"{_SCRATCH}*"):
            with _locked(old) as abandoned:
                if abandoned:
                    shutil.rmtree(old, ignore_errors=True)
        folder = tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=parent)
    except OSError as error:
        raise RunFolderError(cannot_write(parent, error)) from error
    with folder as name, _locked(Path(name)):
        yield Path(name)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Whether `folder` is ours inside the block; the system takes the lock back from a process that was killed."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # the build ended in between
        yield False
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        locked = True
    except OSError:  # another build has it, or the file system knows no locks
        locked = False
    try:
        yield locked
    finally:
        os.close(handle)
