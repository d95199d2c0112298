"""The state of the GPU, with an NVML that answers, one that does not, and none."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from trt_mpq.runtime import nvml
from trt_mpq.types.engine import Conditions


class NVMLError(Exception):
    """What pynvml raises."""


def refuse(*_: Any) -> Any:
    raise NVMLError("Not Supported")


@pytest.fixture
def pynvml(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A stand-in whose calls are logged in `calls`."""
    module = ModuleType("pynvml")
    calls: list[str] = []

    def logged(name: str, answer: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            calls.append(name)
            return answer(*arguments)

        return call

    vars(module).update(
        calls=calls,
        NVMLError=NVMLError,
        NVML_CLOCK_SM=1,
        NVML_CLOCK_MEM=2,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=logged("init", lambda: None),
        nvmlShutdown=logged("shutdown", lambda: None),
        nvmlDeviceGetHandleByIndex=lambda index: f"gpu {index}",
        nvmlDeviceGetHandleByPciBusId=lambda bus: f"gpu at {bus}",
        nvmlDeviceGetClockInfo=lambda gpu, kind: {1: 1755, 2: 2619}[kind],
        nvmlDeviceGetPowerUsage=lambda gpu: 312_500,
        nvmlDeviceGetTotalEnergyConsumption=lambda gpu: 812_345,
        nvmlDeviceGetTemperature=lambda gpu, sensor: 47,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda gpu: 0x1 | 0x4 | 0x40,
        nvmlSystemGetDriverVersion=lambda: "580.82.07",
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return module


def told(gpu: str | None = None) -> Conditions:
    with nvml.conditions(gpu) as conditions:
        return conditions()


def test_units_and_reasons(pynvml: ModuleType) -> None:
    assert told() == Conditions(1755.0, 2619.0, 312.5, 47.0, "power cap, hardware thermal slowdown", 812_345.0)
    assert pynvml.calls == ["init", "shutdown"]


def test_one_session_answers_as_often_as_it_is_asked(pynvml: ModuleType) -> None:
    with nvml.conditions() as conditions:
        assert conditions() == conditions()
        assert pynvml.calls == ["init"]
    assert pynvml.calls == ["init", "shutdown"]


def test_idle_is_no_throttling(pynvml: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCurrentClocksThrottleReasons", lambda gpu: 0x1)
    assert told().throttled == ""


def test_the_gpu_is_found_by_its_bus(pynvml: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    watts = {"gpu 0": 1000, "gpu at 0000:02:00.0": 2000}
    monkeypatch.setattr(pynvml, "nvmlDeviceGetPowerUsage", lambda gpu: watts[gpu])
    assert told().power_w == 1.0
    assert told("0000:02:00.0").power_w == 2.0


@pytest.mark.parametrize(
    ("function", "field"),
    [
        ("nvmlDeviceGetPowerUsage", "power_w"),
        ("nvmlDeviceGetTotalEnergyConsumption", "energy_mj"),
        ("nvmlDeviceGetTemperature", "temperature_c"),
        ("nvmlDeviceGetCurrentClocksThrottleReasons", "throttled"),
    ],
)
def test_what_a_gpu_does_not_tell_is_none(
    pynvml: ModuleType, monkeypatch: pytest.MonkeyPatch, function: str, field: str
) -> None:
    monkeypatch.setattr(pynvml, function, refuse)
    found = told()
    assert getattr(found, field) is None
    assert found.sm_clock_mhz == 1755.0


@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetHandleByIndex"])
def test_an_nvml_that_does_not_work_tells_nothing(
    pynvml: ModuleType, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    monkeypatch.setattr(pynvml, function, refuse)
    assert told() == Conditions()


def test_without_pynvml_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert told() == Conditions()


def test_a_bug_is_not_swallowed(pynvml: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(pynvml, "nvmlDeviceGetPowerUsage")
    with pytest.raises(AttributeError):
        told()


@pytest.mark.parametrize("answer", ["580.82.07", b"580.82.07"])
def test_the_driver_version_as_text(pynvml: ModuleType, monkeypatch: pytest.MonkeyPatch, answer: str | bytes) -> None:
    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: answer)
    assert nvml.driver_version() == "580.82.07"


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023", "535.104.05"),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  (buildbrain@mobile)",
            "540.4.0",
        ),
        ("something else 1.2.3 ", None),
    ],
)
def test_without_nvml_the_kernel_module_tells_the_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str, version: str | None
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(nvml, "_KERNEL_MODULE", tmp_path / "version")
    assert nvml.driver_version() is None
    (tmp_path / "version").write_text(f"{line}\nGCC version:  gcc version 12.3.0\n")
    assert nvml.driver_version() == version
