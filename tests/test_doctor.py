"""The doctor finds what is there, on this machine and on simulated ones."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from tests.test_errors import PROJECT
from trt_mpq import doctor
from trt_mpq.cli import app
from trt_mpq.doctor import _DEPENDENCIES, Diagnosis, Gpu, _Dependency, _parse_gpus, _parse_tegra_release, diagnose

ABSENT = _Dependency("no_such_module", ("no-such-dist",), "nothing", "none")


def test_every_dependency_of_the_package_is_looked_for() -> None:
    """What is for developers alone is not."""
    tables = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    declared = {
        Requirement(text).name: extra
        for extra, texts in tables.items()
        if extra not in ("dev", "docs")
        for text in texts
    }
    looked_for = {d.distributions[0]: d.extra for d in _DEPENDENCIES}
    assert looked_for == {name: extra for name, extra in declared.items() if name not in ("tomli", "trt-mpq")}


def test_versions_are_those_installed() -> None:
    found = {package.name: package.version for package in diagnose().packages}
    assert found["onnxruntime"] == version("onnxruntime")
    assert found["numpy"] == version("numpy")


def test_nothing_it_asks_about_is_imported() -> None:
    code = """
import sys
from trt_mpq.doctor import _DEPENDENCIES, diagnose
diagnose()
print(*({d.module for d in _DEPENDENCIES} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("extra", "code", "line"),
    [
        ("", 1, "REQUIRED, missing: no-such-dist, for nothing: pip install "),
        ("none", 0, "missing: no-such-dist, for nothing: pip install '.[none]'"),
    ],
)
def test_exit_code_tells_whether_required_packages_are_there(
    extra: str, code: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_DEPENDENCIES", (*_DEPENDENCIES, replace(ABSENT, extra=extra)))
    done = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "200"})
    assert done.exit_code == code
    assert line in done.stdout
    assert ("REQUIRED" in done.stdout) == (extra == "")


def test_a_module_without_metadata_counts_as_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "no_such_module.py").write_text("raise ImportError('never imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, "_DEPENDENCIES", (ABSENT,))
    assert diagnose().packages[0].version == "unknown"


def test_gpus_are_read_from_csv() -> None:
    text = "NVIDIA H200, 570.86.15, 143771\nOrin (nvgpu), 540.4.0, [N/A]\n"
    assert _parse_gpus(text) == (Gpu("NVIDIA H200", "570.86.15", 143771), Gpu("Orin (nvgpu)", "540.4.0", None))


def test_jetson_release_is_read() -> None:
    text = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan 8\n"
    assert _parse_tegra_release(text) == "R36.4.3"
    assert _parse_tegra_release("something else") == "unknown release"


def fake_nvidia_smi(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def shown(found: Diagnosis) -> list[str]:
    """What the command prints about a machine, line by line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "diagnose", lambda: found)
        done = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "300"})
    return [" ".join(line.split()) for line in done.stdout.splitlines()]


def abilities(found: Diagnosis) -> dict[str, str]:
    """What the machine can do, as printed: the name is one of those of the diagnosis."""
    names = [ability.name for ability in found.abilities]
    return {name: line.removeprefix(f"{name} ") for name in names for line in shown(found) if line.startswith(name)}


def advice(found: Diagnosis) -> list[str]:
    """What is missing, as printed: all that stands below the abilities."""
    lines = shown(found)
    return lines[len(lines) - lines[::-1].index("") :]


def test_gpus_of_nvidia_smi_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvidia_smi(tmp_path, "echo 'NVIDIA L4, 550.54, 23034'; echo 'NVIDIA L4, 550.54, 23034'", monkeypatch)
    lines = shown(diagnose())
    assert [line for line in lines if line.startswith("GPU")] == ["GPU NVIDIA L4, 22 GiB, driver 550.54"] * 2
    assert not [line for line in lines if "no GPU" in line]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'driver not loaded' >&2; exit 9", "driver not loaded"),
        ("true", "lists no GPU"),
        ("exec sleep 60", "did not answer within 0.2 s"),
    ],
)
def test_a_broken_driver_is_reported_not_raised(
    script: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_nvidia_smi(tmp_path, script, monkeypatch)
    monkeypatch.setattr(doctor, "_NVIDIA_SMI_TIMEOUT_S", 0.2)
    found = diagnose()
    assert found.gpus == ()
    assert words in str(found.gpu_problem)
    assert any(words in line for line in advice(found))


def test_no_driver_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "nvidia-smi is not installed" in str(diagnose().gpu_problem)


def machine(*absent: str, gpu: bool = True, jetson: str | None = None) -> Diagnosis:
    """A simulated machine without the distributions `absent`."""
    gpus = (Gpu("NVIDIA L4", "550.54", 23034),) if gpu else ()
    packages = tuple(
        replace(doctor._state(dependency, jetson is not None), version=None if name in absent else "1.0")
        for dependency in _DEPENDENCIES
        for name in dependency.distributions[:1]
    )
    return Diagnosis("3.11", "Linux", "1.0", packages, gpus, None if gpu else "no driver here", jetson)


def test_a_complete_machine_can_do_everything() -> None:
    found = machine()
    names = ("search", "compile engines for RTX GPUs", "build engines", "time engines")
    assert abilities(found) == dict.fromkeys(names, "yes")
    assert advice(found) == ["nothing is missing"]


def test_each_ability_names_what_it_lacks_and_the_command() -> None:
    can = abilities(machine("tensorrt", gpu=False))
    assert can["search"] == "yes"
    assert "GPU none" in shown(machine(gpu=False))
    assert can["build engines"] == "no: tensorrt is missing (pip install 'tensorrt>=8.6'); there is no GPU"
    can = abilities(machine("pycuda"))
    assert can["time engines"] == "no: pycuda is missing (pip install 'pycuda>=2024.1')"
    assert abilities(machine("onnx"))["search"] == "no: onnx is missing (pip install 'onnx>=1.18')"


def test_half_a_compiler_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_HAS_COMPILER", True)
    half = abilities(machine("tensorrt-rtx-cu12-libs", gpu=False))
    assert half["compile engines for RTX GPUs"] == (
        "no: tensorrt-rtx-cu12-libs is missing (pip install 'tensorrt-rtx-cu12-libs<2,>=1.7')"
    )
    assert half["search"] == "yes"
    mixed = machine()
    packages = (replace(p, version="1.6") if p.name == "tensorrt-rtx-cu12-libs" else p for p in mixed.packages)
    assert abilities(replace(mixed, packages=tuple(packages)))["compile engines for RTX GPUs"] == (
        "no: its parts are of versions 1.0 and 1.6 (pip install --upgrade "
        "'tensorrt-rtx-cu12-bindings<2,>=1.7' 'tensorrt-rtx-cu12-libs<2,>=1.7')"
    )


def test_where_the_compiler_has_no_wheels_none_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_HAS_COMPILER", False)
    assert abilities(machine("tensorrt-rtx-cu12-libs"))["compile engines for RTX GPUs"] == (
        "no: tensorrt-rtx-cu12-libs is missing (not for this machine: its wheels are for Linux on x86-64)"
    )


def test_nvml_is_optional() -> None:
    found = machine("nvidia-ml-py")
    assert all(ability.there for ability in found.abilities)
    (line,) = advice(found)
    assert "clocks, power and temperature beside timings: pip install 'nvidia-ml-py>=12.535'" in line


def test_on_a_jetson_tensorrt_comes_from_the_system_and_the_gpu_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = machine("tensorrt", gpu=False, jetson="R36.4.3")
    answer = abilities(found)["build engines"]
    assert "python3-libnvinfer" in answer
    assert "--system-site-packages" in answer
    assert "pip install" not in answer
    assert "driver" not in answer
    assert not [line for line in advice(found) if "no GPU" in line]
    assert "GPU part of the Jetson, not listed by nvidia-smi" in shown(found)
    release = tmp_path / "nv_tegra_release"
    release.write_text("# R36 (release), REVISION: 4.3, GCID: 38968081\n")
    monkeypatch.setattr(doctor, "_TEGRA_RELEASE", release)
    diagnosed = next(p for p in diagnose().packages if p.name == "tensorrt")
    assert "python3-libnvinfer" in diagnosed.install


def test_json_tells_the_abilities() -> None:
    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert json.loads(done.stdout)["abilities"]["search"] == []
