"""What TensorRT refuses, as exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from trt_mpq.errors import RuntimeFailure
from trt_mpq.runtime.tensorrt.api import load_tensorrt
from trt_mpq.runtime.tensorrt.logger import BuildLog


class BuildError(Exception):
    """TensorRT built no engine from this network; the message is one sentence. Never leaves `builder.build`."""


@contextmanager
def needing_gpu(log: BuildLog) -> Iterator[None]:
    """The block makes a builder or a runtime, whose errors go to `log`.

    Raises:
        RuntimeFailure: There is no GPU that TensorRT can use, as where the driver is older than its CUDA.
    """
    try:
        yield
    except (TypeError, RuntimeError) as error:  # what the bindings make of a constructor that returned nothing
        raise RuntimeFailure(
            f"TensorRT {load_tensorrt().__version__} cannot use a GPU here ({log.complaint or error}): check the "
            "driver, and that containers are given the GPU with `--gpus all`"
        ) from error
