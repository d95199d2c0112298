"""What an engine built here is tied to."""

from __future__ import annotations

from trt_mpq.runtime import cuda
from trt_mpq.runtime.tensorrt.flavour import load_tensorrt
from trt_mpq.types.engine import Platform


def this_platform() -> Platform:
    """The GPU in use and the versions of its libraries.

    Raises:
        MissingDependencyError: tensorrt or pycuda is not installed.
        RuntimeFailure: One of them cannot be loaded, or there is no GPU.
    """
    version: str = load_tensorrt().__version__
    device = cuda.device()
    return Platform(gpu=device.name, sm=device.sm, tensorrt=version, cuda=device.cuda, driver=device.driver)
