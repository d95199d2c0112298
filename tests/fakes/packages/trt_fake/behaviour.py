"""How a pretended GPU and its TensorRT behave: data only, because builds read it in another process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Behaviour:
    """Switches of one pretended device. Every default is the ordinary, working case.

    Attributes:
        gpu: Name of the GPU.
        sm: Compute capability times ten.
        driver: Driver version, as NVML tells it.
        cuda: CUDA version of the driver, as `cuDriverGetVersion` tells it.
        memory_mib: Device memory.
        dla_cores: DLA cores.
        available: Whether there is a CUDA driver at all.
        failing_node: ONNX node for which the builder finds no implementation.
        crash: How the builder takes its process down, if it does.
        hang: Whether a build never ends.
        only_with: Builds fail, crash and hang only for networks that hold this 8-bit type.
        hidden: ONNX nodes whose layers the engine keeps inside an opaque Myelin layer.
        int8_ignored: ONNX nodes that the builder silently runs in FP16 although INT8 was asked for.
        wrong_in_8_bit: ONNX nodes whose kernel gives the negative of its result if it computes in 8 bit.
        eight_bit_slowdown: Factor on the time of INT8 and FP8 layers; above 2 they are slower than FP16.
        gflops: FP32 rate; FP16 is twice, INT8 and FP8 four times as fast. Slow, so that arithmetic decides the time
            of the small networks of tests.
        bandwidth_gb_s: Device memory bandwidth.
        pcie_gb_s: Bandwidth of copies between host and device.
        launch_us: Device time of the smallest kernel.
        enqueue_us: Host time to enqueue one kernel.
        noise: Relative standard deviation of a kernel's time.
        drift: Relative amplitude of a slow change of clocks.
        seed: Seed of the noise.
    """

    gpu: str = "Fake H200"
    sm: int = 90
    driver: str = "580.82.07"
    cuda: int = 13000
    memory_mib: int = 4096
    dla_cores: int = 0
    available: bool = True
    failing_node: str = ""
    crash: Literal["", "abort", "segfault"] = ""
    hang: bool = False
    only_with: Literal["", "int8", "fp8"] = ""
    hidden: tuple[str, ...] = ()
    int8_ignored: tuple[str, ...] = ()
    wrong_in_8_bit: tuple[str, ...] = ()
    eight_bit_slowdown: float = 1.0
    gflops: float = 2.0
    bandwidth_gb_s: float = 50.0
    pcie_gb_s: float = 4.0
    launch_us: float = 2.0
    enqueue_us: float = 2.0
    noise: float = 0.01
    drift: float = 0.01
    seed: int = 0
