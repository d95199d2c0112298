"""The fake NVML: one GPU at steady clocks."""

from __future__ import annotations

from trt_fake import world

NVML_CLOCK_GRAPHICS = 0
NVML_CLOCK_SM = 1
NVML_CLOCK_MEM = 2
NVML_TEMPERATURE_GPU = 0
NVML_ERROR_LIBRARY_NOT_FOUND = 12

_CLOCKS = {NVML_CLOCK_GRAPHICS: 1980, NVML_CLOCK_SM: 1980, NVML_CLOCK_MEM: 3201}
_state = {"users": 0}


class NVMLError(Exception):
    """What every function raises."""


def nvmlInit() -> None:  # noqa: N802
    if not world.behaviour().available:
        raise NVMLError("NVML Shared Library Not Found")
    _state["users"] += 1


def nvmlShutdown() -> None:  # noqa: N802
    _require()
    _state["users"] -= 1


def nvmlSystemGetDriverVersion() -> str:  # noqa: N802
    _require()
    return world.behaviour().driver


def nvmlDeviceGetHandleByIndex(index: int) -> str:  # noqa: N802
    _require()
    if index != 0:
        raise NVMLError("Invalid Argument")
    return "gpu 0"


def nvmlDeviceGetHandleByPciBusId(bus: str) -> str:  # noqa: N802
    _require()
    if bus != "0000:01:00.0":
        raise NVMLError("Not Found")
    return "gpu 0"


def nvmlDeviceGetName(handle: str) -> str:  # noqa: N802
    _require()
    return world.behaviour().gpu


def nvmlDeviceGetClockInfo(handle: str, kind: int) -> int:  # noqa: N802
    _require()
    return _CLOCKS[kind]


def nvmlDeviceGetPowerUsage(handle: str) -> int:  # noqa: N802
    _require()
    return 312_500


def nvmlDeviceGetTotalEnergyConsumption(handle: str) -> int:  # noqa: N802
    _require()
    _state["energy"] = _state.get("energy", 0) + 250
    return _state["energy"]


def nvmlDeviceGetTemperature(handle: str, sensor: int) -> int:  # noqa: N802
    _require()
    return 47


def nvmlDeviceGetCurrentClocksThrottleReasons(handle: str) -> int:  # noqa: N802
    _require()
    return 0


def _require() -> None:
    if _state["users"] == 0:
        raise NVMLError("Uninitialized")
