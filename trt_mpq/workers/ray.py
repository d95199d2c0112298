"""Workers that are actors of a Ray cluster.

Every node needs trt-mpq and Python of the same versions, and sees the run folder and the data at the same paths.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from trt_mpq.errors import MissingDependencyError, RuntimeFailure
from trt_mpq.workers.base import Outcome, WorkerDied
from trt_mpq.workers.station import Station

_ANSWER_S = 10.0
"""How long the head node of a cluster may take to answer."""


class RayCluster:
    """A running Ray cluster, connected to when it is first needed.

    Args:
        address: `host:port` of its head node, "auto" for the cluster that this machine belongs to.
        workers: How many actors, one CPU each; 1 for all CPUs of the cluster.
    """

    def __init__(self, address: str, workers: int) -> None:
        self._address, self._workers = address, workers

    @cached_property
    def count(self) -> int:
        """How many actors there is room for, and no more than were asked for."""
        cpus = int(self._ray.cluster_resources().get("CPU", 0))
        return max(1, cpus if self._workers == 1 else min(cpus, self._workers))

    def hire(self) -> Actor:
        """Ask the cluster for one actor."""
        return Actor(self._ray, self._ray.remote(num_cpus=1, max_restarts=0)(Station).remote())

    def ready(self, workers: Sequence[Actor]) -> Sequence[Actor]:
        """Those whose answer, or whose end, is known."""
        done, _ = self._ray.wait([worker.pending for worker in workers], num_returns=1, fetch_local=False)
        return [worker for worker in workers if worker.pending in done]

    @cached_property
    def _ray(self) -> Any:
        return connected(self._address)


class Actor:
    """One actor; it ends with this process, which Ray watches."""

    def __init__(self, ray: Any, handle: Any) -> None:
        self._ray, self._handle = ray, handle
        self.pending: Any = None
        """Reference to the outcome of the part at work."""

    def begin(self, opening: bytes, part: bytes) -> None:
        """Call the actor."""
        self.pending = self._handle.do.remote(opening, part)

    def outcome(self) -> Outcome:
        """Fetch what came of it."""
        failure = self._ray.exceptions.RayError
        try:
            outcome: Outcome = self._ray.get(self.pending)
        except failure as error:
            raise WorkerDied(f"said: {' '.join(str(error).split())[:500]}") from error
        return outcome

    def dismiss(self) -> None:
        """Kill the actor."""
        if self._ray.is_initialized():  # or it is gone with the connection
            with contextlib.suppress(ValueError):  # it was never placed
                self._ray.kill(self._handle)


def connected(address: str) -> Any:
    """The module `ray`, connected to the cluster at `address`.

    Raises:
        MissingDependencyError: ray is not installed.
        RuntimeFailure: There is no such cluster.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError("ray", "--ray", "pip install 'trt-mpq[ray]'") from error
    try:
        _require_listener(address)
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise RuntimeFailure(
            f"there is no Ray cluster at {address}: start one with `ray start --head`, or pass its address to --ray"
        ) from error
    return ray


def _require_listener(address: str) -> None:
    """Raise OSError unless something listens at `address`: Ray itself would take two minutes to say so."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
