"""Workers that are actors of a Ray cluster.

Every node needs trt-mpq and Python of the same versions, and sees the run folder and the data at the same paths.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import re
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from threading import Lock
from typing import Any

from trt_mpq.errors import RuntimeFailure, missing
from trt_mpq.workers.base import Outcome, Setup, WorkerDied, nothing
from trt_mpq.workers.runner import TaskRunner

_KIND = "accelerator_type:"
"""Ray has a resource of this name for every kind of GPU."""

_CONNECTING = Lock()
"""Ray is connected to once for all threads of a process."""

_ANSWER_S = 10.0
"""How long the head node of a cluster may take to answer."""


class _Cluster:
    """A running Ray cluster, connected to when it is first needed; an error at once where ray is not installed."""

    def __init__(self, address: str) -> None:
        _require_ray()
        self._address = address

    def ready(self, workers: Sequence[Actor]) -> Sequence[Actor]:
        """Those whose answer, or whose end, is known."""
        done, _ = self._ray.wait([worker.pending[0] for worker in workers], num_returns=1, fetch_local=False)
        return [worker for worker in workers if worker.pending[0] in done]

    @cached_property
    def _ray(self) -> Any:
        return connected(self._address)

    @cached_property
    def _resources(self) -> Mapping[str, float]:
        resources: Mapping[str, float] = self._ray.cluster_resources()
        return resources

    def _placed(self, setup: Setup, **needs: Any) -> Actor:
        """An actor where the cluster has what it needs, or will have."""
        runner = self._ray.remote(max_restarts=0, **needs)(TaskRunner)
        return Actor(self._ray, runner.remote(pickle.dumps(setup)))


class RayCluster(_Cluster):
    """The CPUs of a cluster.

    Args:
        address: `host:port` of its head node, "auto" for the cluster that this machine belongs to.
        workers: How many actors, one CPU each; 1 for all CPUs of the cluster.
        setup: Called in each as it starts.
    """

    def __init__(self, address: str, workers: int, setup: Setup = nothing) -> None:
        super().__init__(address)
        self._workers, self._setup = workers, setup

    @cached_property
    def count(self) -> int:
        """How many actors there is room for, and no more than were asked for."""
        cpus = int(self._resources.get("CPU", 0))
        return max(1, cpus if self._workers == 1 else min(cpus, self._workers))

    def start(self) -> Actor:
        """Ask the cluster for one actor."""
        return self._placed(self._setup, num_cpus=1)


class RayGpu(_Cluster):
    """One GPU of a cluster, and no CPU: those may all be taken by actors that wait for what it does.

    Args:
        address: As above.
        device: Name of a device model, which tells the kind of GPU where the cluster has several.
    """

    count = 1

    def __init__(self, address: str, device: str) -> None:
        super().__init__(address)
        self._device = device

    def start(self) -> Actor:
        """Ask the cluster for an actor; Ray gives it the GPU as soon as one is free.

        Raises:
            RuntimeFailure: The cluster has no GPU, or several kinds and none of them is the device.
        """
        if not self._resources.get("GPU"):
            raise RuntimeFailure(f"the Ray cluster at {self._address} has no GPU")
        return self._placed(nothing, num_cpus=0, num_gpus=1, accelerator_type=self._kind())

    def _kind(self) -> str | None:
        """Ray's name for the kind of GPU to take; None if there is no choice."""
        kinds = sorted(name.removeprefix(_KIND) for name in self._resources if name.startswith(_KIND))
        if len(kinds) < 2:
            return None
        wanted = [kind for kind in kinds if _plain(kind) == _plain(self._device)]
        if not wanted:
            raise RuntimeFailure(
                f"the Ray cluster at {self._address} has GPUs of several kinds ({', '.join(kinds)}) and none is called "
                f"{self._device}: choose one of them with --device"
            )
        return wanted[0]


class Actor:
    """One actor; it ends with this process, which Ray watches."""

    def __init__(self, ray: Any, handle: Any) -> None:
        self._ray, self._handle = ray, handle
        self.pending: deque[Any] = deque()
        """References to the outcomes of its parts, the one at work first: an actor keeps the order of calls."""

    def submit(self, initializer: bytes, part: bytes) -> None:
        """Call the actor."""
        self.pending.append(self._handle.do.remote(initializer, part))

    def outcome(self) -> Outcome:
        """Fetch what came of the first of them."""
        failure = self._ray.exceptions.RayError
        try:
            outcome: Outcome = self._ray.get(self.pending.popleft())
        except failure as error:
            raise WorkerDied(f"said: {' '.join(str(error).split())[:500]}") from error
        return outcome

    def stop(self) -> None:
        """Kill the actor."""
        if self._ray.is_initialized():  # or it is gone with the connection
            with contextlib.suppress(ValueError):  # it was never placed
                self._ray.kill(self._handle)


def _require_ray() -> None:
    """Raise MissingDependencyError if ray is not installed; imports nothing."""
    if find_spec("ray") is None:
        raise missing("ray", "--ray", "ray")


def connected(address: str) -> Any:
    """The module `ray`, connected to the cluster at `address`.

    Raises:
        MissingDependencyError: ray is not installed.
        RuntimeFailure: There is no such cluster.
    """
    try:
        import ray
    except ImportError as error:
        raise missing("ray", "--ray", "ray") from error
    try:
        with _CONNECTING:
            _require_listener(address)
            ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise RuntimeFailure(
            f"there is no Ray cluster at {address}: start one with `ray start --head`, or pass its address to --ray"
        ) from error
    return ray


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _require_listener(address: str) -> None:
    """Raise OSError unless something listens at `address`: Ray itself would take two minutes to say so."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
