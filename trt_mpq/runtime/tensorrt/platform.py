"""What an engine built here is tied to."""

from __future__ import annotations

from trt_mpq.runtime import cuda
from trt_mpq.runtime.tensorrt.flavour import load_tensorrt, using
from trt_mpq.types.engine import Flavour, Platform


def this_platform(flavour: Flavour = "tensorrt") -> Platform:
    """The GPU in use and the versions of its libraries, TensorRT of that flavour among them.

    Raises:
        MissingDependencyError: tensorrt or pycuda is not installed.
        RuntimeFailure: One of them cannot be loaded, or there is no GPU.
    """
    with using(flavour):
        version: str = load_tensorrt().__version__
    device = cuda.device()
    return Platform(device.name, device.sm, version, device.cuda, device.driver, flavour)
