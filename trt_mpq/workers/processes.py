"""Workers that are processes of this host.

Each is a fresh interpreter with a socket to this process. Nothing is forked, for ONNX Runtime's threads do not survive
a fork, and the main module is not imported again, as `multiprocessing` would. It imports from where this process does,
and never from the working directory, where a file called as a library may lie.

Why not loky or joblib (3.7 and 1.6, tried 2026-11-29): one killed worker breaks the executor and fails the parts of the
others, nothing is tried again, workers outlive a parent that is killed, Ctrl-C of the terminal reaches them, and they
do import from the working directory.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from trt_mpq.workers.base import Initializer, Outcome, Setup, WorkerDied, nothing

_MAIN = "import sys; sys.path[:] = sys.argv[2:]; from trt_mpq.workers.child import main; main(int(sys.argv[1]))"
"""Run isolated: without the working directory on the path, and without what the environment puts there."""


@dataclass(frozen=True)
class Processes:
    """As many worker processes as `count`, each with the same `setup`."""

    count: int
    setup: Setup = nothing

    def start(self) -> WorkerProcess:
        """Start one."""
        return WorkerProcess(setup=self.setup)

    def ready(self, workers: Sequence[WorkerProcess]) -> Sequence[WorkerProcess]:
        """Those whose socket has something to read: an outcome, or its end."""
        ready = wait([worker.connection for worker in workers])
        return [worker for worker in workers if worker.connection in ready]


class WorkerProcess:
    """One process; it ends by itself as soon as its socket does.

    In a session of its own, it hears no Ctrl-C of the terminal: this process does, and ends it with all it started.

    Args:
        log: Where what it and the libraries in it print goes; None leaves that to this process's own output.
        setup: Called in it as it starts.
    """

    def __init__(self, log: Path | None = None, setup: Setup = nothing) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs, Path(log or os.devnull).open("ab") as printed:
            own = None if log is None else printed
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _MAIN, str(theirs.fileno()), *_search_path()],
                stdin=subprocess.DEVNULL, stdout=own, stderr=own, pass_fds=(theirs.fileno(),), start_new_session=True,
            )  # fmt: skip
            self.connection = Connection(ours.detach())
        with suppress(ConnectionError):  # it ended at once, which is told where it gets work
            self.connection.send_bytes(pickle.dumps(setup))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def submit(self, initializer: bytes, part: bytes) -> None:
        """Send both."""
        with self._alive():
            self.connection.send_bytes(initializer)
            self.connection.send_bytes(part)

    def outcome(self, timeout_s: float | None = None) -> Outcome:
        """Receive what came of it; raises WorkerDied, or TimeoutError if it takes longer."""
        with self._alive():
            if timeout_s is not None and not self.connection.poll(timeout_s):
                raise TimeoutError
            outcome: Outcome = self.connection.recv()
        return outcome

    def stop(self) -> None:
        """Kill it, with all it started, and wait for its end."""
        self.connection.close()
        self._kill()

    def _kill(self) -> int:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()

    @contextmanager
    def _alive(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, ConnectionError) as error:
            code = self._kill()  # its socket ended: so does it, if it has not yet
            raise WorkerDied(_ending(code), code) from error


def done_by_a_process(initializer: Initializer, part: Any, log: Path, timeout_s: float) -> Any:
    """What the work that `initializer` returns makes of one `part`, in a process that ends with it.

    Raises:
        WorkerDied: The process ended without an answer.
        TimeoutError: It took longer than `timeout_s`.
        Exception: What the work raised.
    """
    worker = WorkerProcess(log)
    try:
        worker.submit(pickle.dumps(initializer), pickle.dumps(part))
        outcome = worker.outcome(timeout_s)
    finally:
        worker.stop()
    if outcome.error is not None:
        raise outcome.error
    return outcome.result


def _search_path() -> list[str]:
    """Where this process imports from, without the working directory, unless this very program lies there."""
    here, ours = Path.cwd(), Path(__file__).resolve().parents[2]
    return [entry for entry in sys.path if entry and (Path(entry).resolve() != here or here == ours)]


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was ended by {signal.Signals(-code).name}"
