"""Loggers, shapes, buffers and other small values."""

from __future__ import annotations

import ctypes
import sys
import warnings
from typing import Any

import numpy as np

from trt_fake.classes import Stored, _Meta

_ITEM_SIZES = {"FLOAT": 4, "HALF": 2, "BF16": 2, "INT8": 1, "INT32": 4, "INT64": 8, "BOOL": 1, "UINT8": 1, "FP8": 1}
_PREFIXES = {"INTERNAL_ERROR": "F", "ERROR": "E", "WARNING": "W", "INFO": "I", "VERBOSE": "V"}


def _enter(self: Any) -> Any:
    warnings.warn(
        "Context managers for TensorRT types are deprecated. "
        "Memory will be freed automatically when the reference count reaches 0.",
        DeprecationWarning,
        stacklevel=2,
    )
    return self


def _exit(self: Any, *exception: Any) -> None:
    pass


class Disposable:
    """The deprecated `with` syntax of TensorRT's objects."""

    __enter__ = _enter
    __exit__ = _exit


DISPOSABLE = (
    "ILogger",
    "ICudaEngine",
    "IExecutionContext",
    "Runtime",
    "IHostMemory",
    "Builder",
    "INetworkDefinition",
    "OnnxParser",
    "IBuilderConfig",
)
"""Classes that TensorRT's own `__init__.py` gives the `with` syntax."""


class DataType:
    @property
    def itemsize(self) -> Any:
        return _ITEM_SIZES.get(self.name, 0.5)


class ILogger:
    def log(self, severity: Any, msg: str) -> None:
        raise RuntimeError('Tried to call pure virtual function "nvinfer1::ILogger::log"')


class Logger:
    def _construct(self, min_severity: Any) -> None:
        self.min_severity = min_severity

    min_severity = Stored("ILogger.WARNING")

    def log(self, severity: Any, msg: str) -> None:
        if int(severity) <= int(self.min_severity):
            print(f"[TRT] [{_PREFIXES[severity.name]}] {msg}", file=sys.stderr)


class IProfiler:
    def report_layer_time(self, layer_name: str, ms: float) -> None:
        print(
            "[ERROR] Exception caught in report_layer_time(): "
            'Tried to call pure virtual function "IProfiler::report_layer_time"',
            file=sys.stderr,
        )


class Profiler:
    def report_layer_time(self, layer_name: str, ms: float) -> None:
        print(f"{layer_name}: {ms:g}ms")


class Dims:
    def _construct(self, shape: Any = ()) -> None:
        self._sizes = [int(size) for size in shape]

    @property
    def MAX_DIMS(self) -> int:  # noqa: N802 - the real name
        return 8

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, index: Any) -> Any:
        found = self._sizes[index]
        return tuple(found) if isinstance(found, list) else found

    def __setitem__(self, index: Any, value: Any) -> None:
        self._sizes[index] = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (type(self), tuple, list)) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(tuple(self._sizes))

    def __repr__(self) -> str:
        return repr(tuple(self._sizes))

    __str__ = __repr__


class IHostMemory:
    @property
    def nbytes(self) -> int:
        return ctypes.sizeof(self)

    @property
    def dtype(self) -> Any:
        return self._api.DataType.INT8


class _BufferMeta(type(ctypes.Array), _Meta):
    """Of classes that are generated and have the buffer protocol."""


def host_memory(api: Any, data: bytes) -> Any:
    """An IHostMemory over `data`: a buffer that has no length and no items of its own, like the real one."""
    plain = dict.fromkeys(("__len__", "__getitem__", "__setitem__", "__iter__"))
    body = {**plain, "__bool__": lambda self: True, "__repr__": object.__repr__, "_generated": True}
    made = _BufferMeta("IHostMemory", (api.IHostMemory, ctypes.c_ubyte * len(data)), body)
    return made.from_buffer_copy(data)


class Weights:
    def _construct(self, type: Any = None, ptr: int = 0, count: int = 0, a: Any = None) -> None:
        self._values = np.zeros(0, np.float32) if a is None else np.asarray(a)

    @property
    def size(self) -> int:
        return int(self._values.size)

    @property
    def nbytes(self) -> int:
        return int(self._values.nbytes)

    def numpy(self) -> Any:
        return self._values
