"""The CUDA driver through pycuda: device 0 and what running and timing an engine takes of it.

The only module that names pycuda. pycuda has no CUDA graphs, so `CudaGraph` calls the driver's own functions in the
library that pycuda has loaded already.
"""

from __future__ import annotations

import atexit
import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_mpq.errors import RuntimeFailure, missing
from trt_mpq.graph.onnx_api import first_line
from trt_mpq.runtime.nvml import driver_version

_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: the stream does not wait for the null stream, on which others may work."""
_THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, as trtexec captures."""


@dataclass(frozen=True)
class CudaDevice:
    """A GPU. `sm` is the compute capability times ten, `cuda` what the driver supports, as "13.0".

    `driver` is "unknown" where neither NVML nor the kernel module tells it. `pci_bus_id` finds the GPU in NVML, which
    counts GPUs differently from CUDA.
    """

    name: str
    sm: int
    driver: str
    cuda: str
    pci_bus_id: str


def device() -> CudaDevice:
    """Device 0.

    Raises:
        MissingDependencyError: pycuda is not installed.
        RuntimeFailure: There is no driver or no GPU.
    """
    driver = _pycuda()
    with failures("finding a GPU"):
        found = driver.Device(0)
        major, minor = found.compute_capability()
        version = driver.get_driver_version()
        return CudaDevice(
            name=found.name(),
            sm=10 * major + minor,
            driver=driver_version() or "unknown",
            cuda=f"{version // 1000}.{version % 1000 // 10}",
            pci_bus_id=found.pci_bus_id(),
        )


@contextmanager
def primary_context() -> Iterator[None]:
    """Device 0's primary context, the one TensorRT works in, is current inside the block; blocks may nest.

    Raises:
        MissingDependencyError: pycuda is not installed.
        RuntimeFailure: There is no driver or no GPU.
    """
    driver = _pycuda()
    with failures("making a context"):
        context = _retained_context()
        context.push()
    try:
        yield
    finally:
        driver.Context.pop()


@contextmanager
def failures(doing: str) -> Iterator[None]:
    """Turn CUDA's errors inside the block into a RuntimeFailure; `doing` is a gerund for its sentence."""
    driver = _pycuda()
    try:
        yield
    except driver.MemoryError as error:
        raise RuntimeFailure(
            f"the GPU ran out of memory while {doing}: use a smaller batch or fewer input sets, or stop other programs "
            "on the GPU"
        ) from error
    except driver.Error as error:
        raise RuntimeFailure(
            f"CUDA failed while {doing} ({first_line(error)}): run the same command again, and if it fails again stop "
            "other programs on the GPU"
        ) from error


class Stream:
    """A queue of work on the GPU.

    Like everything below it is made and used inside `primary_context`, and used inside `failures`: what goes wrong on
    the GPU comes to light at any later call.
    """

    def __init__(self) -> None:
        with failures("making a stream"):
            self.raw = _pycuda().Stream(_NON_BLOCKING)
        self.handle = int(self.raw.handle)
        self.pointer = ctypes.c_void_p(self.handle)

    def synchronize(self) -> None:
        """Wait until all its work is done."""
        self.raw.synchronize()

    def wait_for(self, event: Event) -> None:
        """Let later work in this stream start only after `event`."""
        self.raw.wait_for_event(event.raw)


class Event:
    """A moment in a stream."""

    def __init__(self) -> None:
        with failures("making an event"):
            self.raw = _pycuda().Event()

    def record(self, stream: Stream) -> None:
        """Mark the end of what is in `stream` now."""
        self.raw.record(stream.raw)

    def synchronize(self) -> None:
        """Wait for it."""
        self.raw.synchronize()

    def ms_since(self, earlier: Event) -> float:
        """Milliseconds from `earlier` to this; both must have passed."""
        return float(self.raw.time_since(earlier.raw))


class Buffer:
    """Pinned host memory and device memory of the same size, and the copies between them.

    Attributes:
        host: The host side as bytes, shape [nbytes].
        address: The device side.
    """

    def __init__(self, nbytes: int) -> None:
        self._driver = _pycuda()
        size = max(nbytes, 1)  # an allocation of nothing is an error
        with failures(f"allocating {size / 2**20:.1f} MiB"):
            # Bytes, because numpy's buffers know neither bfloat16 nor float8.
            self._pinned: Any = self._driver.pagelocked_empty(size, np.dtype(np.uint8))
            try:
                self._device = self._driver.mem_alloc(size)
            except BaseException:
                self._pinned.base.free()
                raise
        self.host: NDArray[np.uint8] = self._pinned[:nbytes]
        self.address = int(self._device)

    def upload(self, stream: Stream) -> None:
        """Enqueue the copy to the device."""
        self._driver.memcpy_htod_async(self.address, self._pinned, stream.raw)

    def download(self, stream: Stream) -> None:
        """Enqueue the copy to the host."""
        self._driver.memcpy_dtoh_async(self._pinned, self.address, stream.raw)

    def close(self) -> None:
        """Free both sides; arrays that view `host` must not be used any more."""
        self._device.free()
        self._pinned.base.free()


class CudaGraph:
    """Work that was recorded from a stream and is launched in one call."""

    def __init__(self, library: Any, executable: ctypes.c_void_p) -> None:
        self._library, self._executable = library, executable

    @classmethod
    def capture(cls, stream: Stream, enqueue: Callable[[], None]) -> CudaGraph:
        """Record what `enqueue` puts into `stream`, without running it.

        Raises:
            RuntimeFailure: The work cannot be captured; the stream is usable all the same.
        """
        library, graph, executable = _driver_library(), ctypes.c_void_p(), ctypes.c_void_p()
        began = library.cuStreamBeginCapture_v2(stream.pointer, ctypes.c_int(_THREAD_LOCAL))
        _check(library, began, "begin a CUDA graph")
        try:
            enqueue()
        finally:
            ended = library.cuStreamEndCapture(stream.pointer, ctypes.byref(graph))
        _check(library, ended, "capture a CUDA graph")
        try:
            made = library.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
            _check(library, made, "instantiate a CUDA graph")
        finally:
            library.cuGraphDestroy(graph)
        return cls(library, executable)

    def launch(self, stream: Stream) -> None:
        """Enqueue it."""
        _check(self._library, self._library.cuGraphLaunch(self._executable, stream.pointer), "launch a CUDA graph")

    def close(self) -> None:
        """Free it."""
        # Unchecked, as pycuda frees: a GPU that has failed refuses this too, and that would hide the failure.
        self._library.cuGraphExecDestroy(self._executable)


def _driver_library() -> Any:
    """The driver's C library, which pycuda has loaded already."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise RuntimeFailure(f"the CUDA driver cannot be loaded ({error}): install the NVIDIA driver") from error


def _check(library: Any, result: int, doing: str) -> None:
    if result == 0:
        return
    name = ctypes.c_char_p()
    library.cuGetErrorName(ctypes.c_int(result), ctypes.byref(name))
    raise RuntimeFailure(f"CUDA could not {doing}: {(name.value or b'error').decode()} ({result})")


def _pycuda() -> Any:
    """The module `pycuda.driver`, with the driver initialized."""
    try:
        import pycuda.driver as driver
    except ModuleNotFoundError as error:
        raise missing("pycuda", "running an engine", "cuda") from error
    except ImportError as error:
        raise RuntimeFailure(
            f"pycuda cannot load the CUDA driver ({first_line(error)}): install the NVIDIA driver, or give the "
            "container the GPU with `--gpus all`"
        ) from error
    try:
        driver.init()
    except driver.Error as error:
        raise RuntimeFailure(
            f"CUDA finds no usable GPU ({first_line(error)}): check the driver, or give the container the GPU with "
            "`--gpus all`"
        ) from error
    return driver


@cache
def _retained_context() -> Any:
    """Device 0's primary context, kept until the process ends.

    pycuda leaves a context that it has released on CUDA's stack, and TensorRT's objects outlive any one block; so it
    is retained once, and blocks only push and pop it.
    """
    context = _pycuda().Device(0).retain_primary_context()
    atexit.register(context.detach)
    return context
