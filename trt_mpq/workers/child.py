"""What a worker process runs, see `processes.py`."""

from __future__ import annotations

import contextlib
import threading
from multiprocessing.connection import Connection
from os import _exit  # by its own name: while the user's code runs, `os._exit` raises
from queue import SimpleQueue

from trt_mpq.workers.runner import TaskRunner


def main(handle: int) -> None:
    """Receive a setup, then initializers and parts; send what comes of each. All ends with the socket, a descriptor."""
    connection = Connection(handle)
    received: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_receive, args=(connection, received), daemon=True).start()
    runner = TaskRunner(received.get())
    with contextlib.suppress(ConnectionError):  # the other thread ends the process
        while True:
            connection.send(runner.do(received.get(), received.get()))


def _receive(connection: Connection, received: SimpleQueue[bytes]) -> None:
    """Pass on what arrives. The end of the socket is the end of the run: nobody waits for the part at work."""
    while True:
        try:
            received.put(connection.recv_bytes())
        except (EOFError, OSError):
            _exit(0)
