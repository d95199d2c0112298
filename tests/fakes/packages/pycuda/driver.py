"""The CUDA driver of the pretended GPU, as far as `trt_mpq.runtime.cuda` calls it: every copy is a real one."""

from __future__ import annotations

from typing import Any

import numpy as np
from trt_fake import world
from trt_fake.clock import Stream as _Queue
from trt_fake.memory import IllegalAddressError


class Error(Exception):
    """Base of CUDA's errors."""


class LogicError(Error):
    """A wrong call."""


class RuntimeError(Error):
    """A failure of the device."""


class MemoryError(Error):
    """The device is full."""


class LaunchError(Error):
    """A kernel failed."""


_state = {"initialized": False}
_contexts: list[Context] = []


def init(flags: int = 0) -> None:
    """Find the device."""
    if not world.behaviour().available:
        raise RuntimeError("cuInit failed: no CUDA-capable device is detected")
    _state["initialized"] = True


def get_driver_version() -> int:
    """CUDA version of the driver, 1000 times the major plus 10 times the minor."""
    return world.behaviour().cuda


def get_version() -> tuple[int, int, int]:
    """CUDA version that pycuda was built with."""
    return (12, 4, 0)


class Device:
    """The GPU."""

    def __init__(self, number: int) -> None:
        if not _state["initialized"]:
            raise LogicError("cuDeviceGet failed: initialization error")
        if number != 0:
            raise LogicError("cuDeviceGet failed: invalid device ordinal")

    @staticmethod
    def count() -> int:
        return 1

    def name(self) -> str:
        return world.behaviour().gpu

    def compute_capability(self) -> tuple[int, int]:
        return divmod(world.behaviour().sm, 10)

    def total_memory(self) -> int:
        return world.behaviour().memory_mib << 20

    def pci_bus_id(self) -> str:
        return "0000:01:00.0"

    def retain_primary_context(self) -> Context:
        return Context()


class Context:
    """The primary context. Work without a current one fails, as on a device."""

    def push(self) -> None:
        _contexts.append(self)

    @staticmethod
    def pop() -> None:
        if not _contexts:
            raise LogicError("cuCtxPopCurrent failed: invalid device context")
        _contexts.pop()

    def detach(self) -> None:
        while self in _contexts:
            _contexts.remove(self)

    @staticmethod
    def synchronize() -> None:
        for queue in world.clock().streams.values():
            world.clock().wait(queue.ready)


def mem_get_info() -> tuple[int, int]:
    """Free and total bytes."""
    _require_context("cuMemGetInfo")
    memory = world.memory()
    return memory.capacity - memory.used, memory.capacity


class DeviceAllocation:
    """Device memory."""

    def __init__(self, address: int) -> None:
        self._address = address

    def __int__(self) -> int:
        return self._address

    __index__ = __int__

    def free(self) -> None:
        _guarded("cuMemFree", lambda: world.memory().free(self._address))


def mem_alloc(nbytes: int) -> DeviceAllocation:
    """Allocate device memory."""
    _require_context("cuMemAlloc")
    if nbytes == 0:
        raise LogicError("cuMemAlloc failed: invalid argument")
    import builtins

    try:
        return DeviceAllocation(world.memory().allocate(nbytes))
    except builtins.MemoryError as error:
        raise MemoryError(f"cuMemAlloc failed: out of memory ({error})") from error


class PagelockedHostAllocation:
    """Pinned host memory, the base of the array that views it."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._data: Any = np.empty(shape, dtype)
        self.__array_interface__ = self._data.__array_interface__

    def free(self) -> None:
        if self._data is None:
            raise LogicError("cuMemFreeHost failed: invalid argument")
        self._data = None


def pagelocked_empty(shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> Any:
    """An uninitialized array in pinned memory, whose base is the allocation."""
    _require_context("cuMemHostAlloc")
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    return np.asarray(PagelockedHostAllocation(sizes, np.dtype(dtype)))


class Stream:
    """A queue of work. Host functions return before the simulated device is done."""

    def __init__(self, flags: int = 0) -> None:
        _require_context("cuStreamCreate")
        self._queue = world.clock().new_stream()

    @property
    def handle(self) -> int:
        return self._queue.handle

    def synchronize(self) -> None:
        world.clock().wait(self._queue.ready)

    def is_done(self) -> bool:
        return world.clock().host >= self._queue.ready

    def wait_for_event(self, event: Event) -> None:
        self._queue.ready = max(self._queue.ready, event._moment or 0.0)


class Event:
    """A moment of a stream."""

    def __init__(self, flags: int = 0) -> None:
        _require_context("cuEventCreate")
        self._moment: float | None = None

    def record(self, stream: Stream | None = None) -> Event:
        queue = _queue(stream)
        queue.ready = max(queue.ready, world.clock().host)
        self._moment = queue.ready
        return self

    def synchronize(self) -> Event:
        if self._moment is not None:
            world.clock().wait(self._moment)
        return self

    def query(self) -> bool:
        return self._moment is None or world.clock().host >= self._moment

    def time_since(self, event: Event) -> float:
        return event.time_till(self)

    def time_till(self, event: Event) -> float:
        if self._moment is None or event._moment is None:
            raise LogicError("cuEventElapsedTime failed: invalid resource handle")
        if not (self.query() and event.query()):
            raise LogicError("cuEventElapsedTime failed: device not ready")
        return event._moment - self._moment


def memcpy_htod_async(dest: Any, src: Any, stream: Stream | None = None) -> None:
    """Copy host bytes to the device."""
    _copy("cuMemcpyHtoDAsync", int(dest), src, stream, to_device=True)


def memcpy_dtoh_async(dest: Any, src: Any, stream: Stream | None = None) -> None:
    """Copy device bytes to the host."""
    _copy("cuMemcpyDtoHAsync", int(src), dest, stream, to_device=False)


def memcpy_htod(dest: Any, src: Any) -> None:
    """Copy host bytes to the device and wait."""
    memcpy_htod_async(dest, src)


def memcpy_dtoh(dest: Any, src: Any) -> None:
    """Copy device bytes to the host and wait."""
    memcpy_dtoh_async(dest, src)


def _copy(function: str, address: int, array: Any, stream: Stream | None, *, to_device: bool) -> None:
    _require_context(function)
    host = memoryview(array).cast("B")
    milliseconds = 2e-3 + host.nbytes / (world.behaviour().pcie_gb_s * 1e6)

    def copy() -> None:
        device = world.memory().view(address, host.nbytes)
        if to_device:
            device[:] = np.frombuffer(host, np.uint8)
        else:
            host[:] = device.data

    queue = _queue(stream)
    if queue.captured is not None:
        queue.captured.append(copy)
        queue.durations.append(milliseconds)
        return
    _guarded(function, copy)
    world.clock().run(queue, [milliseconds], launches=1)
    if stream is None:
        world.clock().wait(queue.ready)


def _queue(stream: Stream | None) -> _Queue:
    return world.clock().stream(0) if stream is None else stream._queue


def _guarded(function: str, work: Any) -> None:
    try:
        work()
    except IllegalAddressError as error:
        raise LogicError(f"{function} failed: invalid argument ({error})") from error


def _require_context(function: str) -> None:
    if not _contexts:
        raise LogicError(f"{function} failed: invalid device context")
