"""The functions of `libcuda.so.1` that pycuda does not wrap: graphs. Arguments are ctypes objects, results codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trt_fake import world

_INVALID = 400
"""CUDA_ERROR_INVALID_HANDLE."""


class DriverLibrary:
    """Stands in for what `trt_mpq.runtime.cuda._driver_library` returns."""

    def __init__(self) -> None:
        self._graphs: dict[int, tuple[list[Callable[[], None]], list[float]]] = {}
        self._next = 0x9000

    def cuStreamBeginCapture_v2(self, stream: Any, mode: Any) -> int:  # noqa: N802
        queue = world.clock().stream(stream.value)
        queue.captured, queue.durations = [], []
        return 0

    def cuStreamEndCapture(self, stream: Any, graph: Any) -> int:  # noqa: N802
        queue = world.clock().stream(stream.value)
        if queue.captured is None:
            return _INVALID
        graph._obj.value = self._keep(queue.captured, queue.durations)
        queue.captured, queue.durations = None, []
        return 0

    def cuGraphInstantiateWithFlags(self, executable: Any, graph: Any, flags: Any) -> int:  # noqa: N802
        if graph.value not in self._graphs:
            return _INVALID
        executable._obj.value = self._keep(*self._graphs[graph.value])
        return 0

    def cuGraphLaunch(self, executable: Any, stream: Any) -> int:  # noqa: N802
        if executable.value not in self._graphs:
            return _INVALID
        work, durations = self._graphs[executable.value]
        for step in work:
            step()
        world.clock().run(world.clock().stream(stream.value), durations, launches=1)
        return 0

    def cuGraphExecDestroy(self, executable: Any) -> int:  # noqa: N802
        return 0 if self._graphs.pop(executable.value, None) else _INVALID

    cuGraphDestroy = cuGraphExecDestroy  # noqa: N815

    def cuGetErrorName(self, result: Any, name: Any) -> int:  # noqa: N802
        name._obj.value = b"CUDA_ERROR_INVALID_HANDLE" if result.value == _INVALID else b"CUDA_ERROR_UNKNOWN"
        return 0

    def _keep(self, work: list[Callable[[], None]], durations: list[float]) -> int:
        self._next += 1
        self._graphs[self._next] = (work, durations)
        return self._next
