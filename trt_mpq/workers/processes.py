"""Workers that are processes of this host.

Each is a fresh interpreter with a socket to this process. Nothing is forked, for ONNX Runtime's threads do not survive
a fork, and the main module is not imported again, as `multiprocessing` would.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

from trt_mpq.workers.base import Outcome, WorkerDied


@dataclass(frozen=True)
class Processes:
    """As many worker processes as `count`."""

    count: int

    def hire(self) -> WorkerProcess:
        """Start one."""
        return WorkerProcess()

    def ready(self, workers: Sequence[WorkerProcess]) -> Sequence[WorkerProcess]:
        """Those whose socket has something to read: an outcome, or its end."""
        ready = wait([worker.connection for worker in workers])
        return [worker for worker in workers if worker.connection in ready]


class WorkerProcess:
    """One process; it ends by itself as soon as its socket does.

    In a session of its own, it hears no Ctrl-C of the terminal: this process does, and ends it.
    """

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "trt_mpq.workers.child", str(theirs.fileno())],
                stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),), start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )  # fmt: skip
            self.connection = Connection(ours.detach())

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def begin(self, opening: bytes, part: bytes) -> None:
        """Send both."""
        with self._alive():
            self.connection.send((opening, part))

    def outcome(self) -> Outcome:
        """Receive what came of it."""
        with self._alive():
            outcome: Outcome = self.connection.recv()
        return outcome

    def dismiss(self) -> None:
        """Kill it and wait for its end."""
        self.connection.close()
        self._process.kill()
        self._process.wait()

    @contextmanager
    def _alive(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, ConnectionError) as error:
            self._process.kill()  # its socket ended: so does it, if it has not yet
            raise WorkerDied(_ending(self._process.wait())) from error


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was ended by {signal.Signals(-code).name}"
