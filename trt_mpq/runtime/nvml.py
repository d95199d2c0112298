"""The state of the GPU during a measurement, as NVML tells it.

The only module that names pynvml. Timings are judged without it, so its absence is no error: Jetson has next to no
NVML, containers may lack it, and what a GPU does not report is None.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from trt_mpq.types.engine import Conditions

_T = TypeVar("_T")
_KERNEL_MODULE = Path("/proc/driver/nvidia/version")
_THROTTLING = {
    0x2: "application clocks",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
    0x100: "display clocks",
}
"""NVML's bits for what holds the clocks down; 0x1 says idle, which is not throttling."""


@contextmanager
def conditions(pci_bus_id: str | None = None) -> Iterator[Callable[[], Conditions]]:
    """Tells the state of one GPU whenever it is asked, all in one session of NVML.

    Opening a session between timings takes longer than some of them. Every field is None without NVML or where this GPU
    does not tell; `throttled` names what holds the clocks down, separated by commas, and is empty if nothing does.

    Args:
        pci_bus_id: The GPU, such as "0000:01:00.0"; None is NVML's first one.
    """
    with _nvml() as nvml:
        gpu = None if nvml is None else _answer(nvml, partial(_gpu, nvml, pci_bus_id))
        yield Conditions if nvml is None or gpu is None else partial(_state, nvml, gpu)


def _gpu(nvml: ModuleType, pci_bus_id: str | None) -> object:
    return nvml.nvmlDeviceGetHandleByIndex(0) if pci_bus_id is None else nvml.nvmlDeviceGetHandleByPciBusId(pci_bus_id)


def _state(nvml: ModuleType, gpu: object) -> Conditions:
    milliwatts = _answer(nvml, lambda: float(nvml.nvmlDeviceGetPowerUsage(gpu)))
    reasons = _answer(nvml, lambda: int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)))
    return Conditions(
        sm_clock_mhz=_answer(nvml, lambda: float(nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM))),
        memory_clock_mhz=_answer(nvml, lambda: float(nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM))),
        power_w=None if milliwatts is None else milliwatts / 1000,
        temperature_c=_answer(nvml, lambda: float(nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU))),
        throttled=None if reasons is None else ", ".join(_THROTTLING[bit] for bit in _THROTTLING if reasons & bit),
        energy_mj=_answer(nvml, lambda: float(nvml.nvmlDeviceGetTotalEnergyConsumption(gpu))),
    )


def driver_version() -> str | None:
    """Version of the NVIDIA driver, such as "570.124.06", from NVML or the kernel module; None if neither tells."""
    with _nvml() as nvml:
        version = None if nvml is None else _answer(nvml, nvml.nvmlSystemGetDriverVersion)
    if version is not None:
        return version.decode() if isinstance(version, bytes) else str(version)
    if not _KERNEL_MODULE.is_file():
        return None
    found = re.search(r"Kernel Module\b.*?\s(\d+\.\d+(?:\.\d+)?)\s", _KERNEL_MODULE.read_text(encoding="utf-8"))
    return found.group(1) if found else None


@contextmanager
def _nvml() -> Iterator[ModuleType | None]:
    """pynvml, initialized; None if it is not installed or finds no NVML."""
    try:
        nvml = import_module("pynvml")
    except ImportError:
        yield None
        return
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        yield None
        return
    try:
        yield nvml
    finally:
        _answer(nvml, nvml.nvmlShutdown)


def _answer(nvml: ModuleType, ask: Callable[[], _T]) -> _T | None:
    """What `ask` returns, None if NVML refuses: most questions are optional for a GPU."""
    try:
        return ask()
    except nvml.NVMLError:
        return None
