"""The machine on which a run's engines are built and timed: this one, or one of a cluster."""

from __future__ import annotations

from typing import Literal, TypeVar

from trt_mpq.artifacts.files import to_stored_json
from trt_mpq.artifacts.stage import Stage
from trt_mpq.artifacts.store import Store
from trt_mpq.errors import MissingDependencyError, RuntimeFailure, TrtMpqError
from trt_mpq.pipeline.compiler import require_compiler
from trt_mpq.pipeline.remote import RemoteTask, RunRemotely
from trt_mpq.runtime.tensorrt.flavour import found_version
from trt_mpq.types.engine import Flavour, Platform

T = TypeVar("T")


class Gpu:
    """What there is to build engines on.

    Args:
        store: The run's.
        run_remotely: Has another machine do what this one cannot; None if there is none.
    """

    def __init__(self, store: Store, run_remotely: RunRemotely | None = None) -> None:
        self._store, self._run_remotely = store, run_remotely
        self.stage: Stage[Platform | TrtMpqError] = Stage("gpu", lambda job: self._find(), digest=_digest)
        """The machine, or why engines cannot be built."""

    def find(self) -> Platform | None:
        """The machine, if there is one."""
        found = self._store[self.stage]
        return found if isinstance(found, Platform) else None

    def absence(self) -> str | None:
        """Why no engine can be built, in one sentence; None if one can."""
        found = self._store[self.stage]
        return None if isinstance(found, Platform) else str(found)

    def is_remote(self) -> bool:
        """Whether the machine is another than this one, so that tasks have to be sent to it."""
        return self._run_remotely is not None and not isinstance(self._store[_HERE], Platform)

    def require(self) -> Platform:
        """The machine.

        Raises:
            MissingDependencyError: TensorRT or pycuda is absent.
            RuntimeFailure: There is no GPU.
        """
        found = self._store[self.stage]
        if isinstance(found, Platform):
            return found
        raise found

    def require_engine(self) -> None:
        """Check that an engine can be had: built on the machine, or made by NVIDIA's compiler without it.

        Raises:
            MissingDependencyError: TensorRT or pycuda is absent, and so is the compiler.
            RuntimeFailure: There is no GPU, and the compiler does not serve the device of the run.
        """
        found = self._store[self.stage]
        if not isinstance(found, Platform):
            require_compiler(self._store, found)

    def run_remotely(self, task: RemoteTask, kind: type[T]) -> T:
        """What came of a task that another machine did, which wrote it into the run folder too."""
        assert self._run_remotely is not None
        try:
            with self._store.observer.stage(f"On a GPU of the cluster: {task.value}"):
                result = self._run_remotely(task)
        finally:
            self._store.reread()
        for note in result.notes:
            self._store.observer.note(note)
        assert isinstance(result.value, kind)
        return result.value

    def _find(self) -> Platform | TrtMpqError:
        here = self._store[_HERE]
        if not self.is_remote():
            return here
        try:
            return self.run_remotely(RemoteTask.PLATFORM, Platform)
        except (MissingDependencyError, RuntimeFailure) as error:
            return RuntimeFailure(f"{here}; and on the cluster: {error}")


def _here(wanted: Literal["auto", "tensorrt", "rtx"]) -> Platform | TrtMpqError:
    """This machine with the TensorRT that is wanted; the first of them that is there, where either will do."""
    if wanted != "auto":
        return _with(wanted)
    itself = _with("tensorrt")
    rtx = _with("rtx") if isinstance(itself, MissingDependencyError) and found_version("rtx") else itself
    return rtx if isinstance(rtx, Platform) else itself


def _with(flavour: Flavour) -> Platform | TrtMpqError:
    from trt_mpq.runtime.tensorrt.platform import this_platform

    try:
        return this_platform(flavour)
    except (MissingDependencyError, RuntimeFailure) as error:
        return error


def _digest(found: Platform | TrtMpqError) -> str:
    return to_stored_json(found, Platform) if isinstance(found, Platform) else str(found)


_HERE = Stage("here", lambda job: _here(job.settings.engine.flavour), reads=("engine.flavour",), digest=_digest)
"""This machine, or why engines cannot be built on it."""
