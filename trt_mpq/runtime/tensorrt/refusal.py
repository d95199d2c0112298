"""What TensorRT refuses, as exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from trt_mpq.errors import RuntimeFailure
from trt_mpq.runtime.tensorrt.flavour import titled
from trt_mpq.runtime.tensorrt.logger import BuildLog


class BuildError(Exception):
    """TensorRT built no engine from this network; the message is one sentence. Never leaves `builder.build`."""


def failure(what: str, log: BuildLog) -> BuildError:
    """That TensorRT did not do `what`, for the reason it gave first; those after it follow from that."""
    return BuildError(f"{titled()} {what}: {log.errors[0] if log.errors else 'it gave no reason'}")


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
            f"{titled()} cannot use a GPU here ({log.complaint or error}): check the "
            "driver, and that containers are given the GPU with `--gpus all`"
        ) from error
