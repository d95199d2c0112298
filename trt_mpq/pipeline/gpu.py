"""The machine on which a run's engines are built and timed: this one, or one of a cluster."""

from __future__ import annotations

from typing import TypeVar

from trt_mpq.artifacts.files import to_stored_json
from trt_mpq.artifacts.stage import Stage
from trt_mpq.artifacts.store import Store
from trt_mpq.errors import MissingDependencyError, RuntimeFailure, TrtMpqError
from trt_mpq.pipeline.remote import RemoteTask, RunRemotely
from trt_mpq.types.engine import Platform

T = TypeVar("T")


class Gpu:
    """What there is to build engines on.

    Args:
        store: The run's.
        remote: Has another machine do what this one cannot; None if there is none.
    """

    def __init__(self, store: Store, remote: RunRemotely | None = None) -> None:
        self._store, self._remote = store, remote
        self.stage: Stage[Platform | TrtMpqError] = Stage("gpu", lambda job: self._found(), digest=_digest)
        """The machine, or why engines cannot be built."""

    @property
    def platform(self) -> Platform | None:
        """The machine, if there is one."""
        found = self._store[self.stage]
        return found if isinstance(found, Platform) else None

    @property
    def absence(self) -> str | None:
        """Why no engine can be built, in one sentence; None if one can."""
        found = self._store[self.stage]
        return None if isinstance(found, Platform) else str(found)

    @property
    def is_remote(self) -> bool:
        """Whether the machine is another than this one, so that work is sent to it."""
        return self._remote is not None and not isinstance(self._store[_HERE], Platform)

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

    def run_remotely(self, task: RemoteTask, kind: type[T]) -> T:
        """What came of a task that another machine did, which wrote it into the run folder too."""
        assert self._remote is not None
        with self._store.observer.stage(f"On a GPU of the cluster: {task.value}"):
            returned = self._remote(task)
        self._store.reread()
        for note in returned.notes:
            self._store.observer.note(note)
        assert isinstance(returned.value, kind)
        return returned.value

    def _found(self) -> Platform | TrtMpqError:
        here = self._store[_HERE]
        if not self.is_remote:
            return here
        try:
            return self.run_remotely(RemoteTask.PLATFORM, Platform)
        except (MissingDependencyError, RuntimeFailure) as error:
            return RuntimeFailure(f"{here}; and on the cluster: {error}")


def _here() -> Platform | TrtMpqError:
    from trt_mpq.runtime.tensorrt.platform import this_platform

    try:
        return this_platform()
    except (MissingDependencyError, RuntimeFailure) as error:
        return error


_HERE = Stage("here", lambda job: _here())
"""This machine, or why engines cannot be built on it."""


def _digest(found: Platform | TrtMpqError) -> str:
    return to_stored_json(found, Platform) if isinstance(found, Platform) else str(found)
