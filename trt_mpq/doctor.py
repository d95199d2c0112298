"""What this machine has, what is missing, what that prevents, and the command that installs it.

Nothing is imported to find out: versions come from the packages' metadata, so a broken or slow library
cannot break the diagnosis.
"""

from __future__ import annotations

import csv
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from trt_mpq.errors import install_command

_NVIDIA_SMI_TIMEOUT_S = 15.0
_TEGRA_RELEASE = Path("/etc/nv_tegra_release")
_TEGRA_MODEL = Path("/proc/device-tree/model")
_GPU_FIELDS = "name,driver_version,memory.total"


@dataclass(frozen=True)
class _Dependency:
    """A package the product uses: its module, the distributions that provide it, and what it is for.

    `extra` is the extra of trt-mpq that installs it, empty for what trt-mpq itself requires.
    """

    module: str
    distributions: tuple[str, ...]
    needed_for: str
    extra: str = ""


_DEPENDENCIES = (
    _Dependency("numpy", ("numpy",), "everything"),
    _Dependency("ml_dtypes", ("ml-dtypes",), "BF16, FP8 and INT4 numerics"),
    _Dependency("scipy", ("scipy",), "searching with ilp and pareto"),
    _Dependency("onnx", ("onnx",), "reading and checking models"),
    _Dependency("onnx_ir", ("onnx-ir",), "editing graphs"),
    _Dependency("onnxscript", ("onnxscript",), "folding and version conversion"),
    _Dependency("onnxruntime", ("onnxruntime", "onnxruntime-gpu"), "the reference runtime"),
    _Dependency("polygraphy", ("polygraphy",), "comparing with FP32"),
    _Dependency("pydantic", ("pydantic",), "settings and JSON"),
    _Dependency("rich", ("rich",), "tables and progress"),
    _Dependency("typer", ("typer",), "the command line"),
    _Dependency("jinja2", ("jinja2",), "the HTML report"),
    _Dependency("torch", ("torch",), "hessian sensitivity through autograd", "torch"),
    _Dependency("transformers", ("transformers",), "exporting Hugging Face folders", "hf"),
    _Dependency("PIL", ("pillow",), "image folders as data", "images"),
    _Dependency("sklearn", ("scikit-learn",), "trt-mpq demo", "demo"),
    _Dependency("ray", ("ray",), "workers on a Ray cluster", "ray"),
    _Dependency("cryptography", ("cryptography",), "signing engines", "signing"),
    _Dependency("pycocotools", ("pycocotools",), "the metrics map50 and map50-95", "detection"),
    _Dependency("jiwer", ("jiwer",), "the metrics wer and cer", "speech"),
    _Dependency(
        "tensorrt", ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11"), "building engines", "tensorrt"
    ),
    _Dependency(
        "tensorrt_rtx_bindings",
        ("tensorrt-rtx-cu12-bindings", "tensorrt-rtx-cu13-bindings"),
        "compiling engines for RTX GPUs without a GPU",
        "rtx",
    ),
    _Dependency(
        "tensorrt_rtx_libs",
        ("tensorrt-rtx-cu12-libs", "tensorrt-rtx-cu13-libs"),
        "compiling engines for RTX GPUs without a GPU",
        "rtx",
    ),
    _Dependency("pycuda", ("pycuda",), "building and timing engines", "cuda"),
    _Dependency("pynvml", ("nvidia-ml-py",), "clocks, power and temperature beside timings", "cuda"),
)
_ON_JETSON = {
    "tensorrt": "sudo apt install python3-libnvinfer, then use a venv made with --system-site-packages; JetPack brings "
    "TensorRT, pip has none for it"
}
"""How to install what is a system package on a Jetson."""
_COMPILER = ("tensorrt-rtx-cu12-bindings", "tensorrt-rtx-cu12-libs")
_HAS_COMPILER = (platform.system(), platform.machine()) == ("Linux", "x86_64")
"""Whether TensorRT for RTX has wheels for this machine that compile without a GPU."""
_DEVICE_NEEDS = ("tensorrt", "pycuda")
"""A build looks at the GPU through pycuda."""


@dataclass(frozen=True)
class _JetPack:
    """What a release of Jetson Linux comes with, and the compute capability, times ten, of the Jetsons it is for."""

    name: str
    tensorrt: tuple[int, int]
    capability: int


_JETPACKS = {
    "R36.3": _JetPack("JetPack 6.0", (8, 6), 87),
    "R36.4": _JetPack("JetPack 6.1 or 6.2", (10, 3), 87),
    "R38": _JetPack("JetPack 7", (10, 13), 110),
}
"""Jetson Linux by JetPack's release notes; R36 is for Orin, R38 for Thor."""


@dataclass(frozen=True)
class PackageState:
    """One package as found: `version` is None if it is absent."""

    name: str
    version: str | None
    required: bool
    needed_for: str
    install: str


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU; `memory_mib` is None where it shares the system's memory.

    `capability` is its compute capability times ten, None where the driver does not tell.
    """

    name: str
    driver: str
    memory_mib: int | None
    capability: int | None = None


@dataclass(frozen=True)
class Ability:
    """Something this machine may be able to do; `lacking` says what stands in the way and what to do about it."""

    name: str
    lacking: tuple[str, ...]

    @property
    def there(self) -> bool:
        """Whether nothing stands in the way."""
        return not self.lacking


@dataclass(frozen=True)
class Diagnosis:
    """Everything found.

    Attributes:
        python: Python version.
        system: Operating system and processor.
        product: Version of trt-mpq.
        packages: State of every package it uses.
        gpus: NVIDIA GPUs.
        gpu_problem: Why `gpus` is empty, or None.
        jetson: Jetson Linux release, or None on other machines.
    """

    python: str
    system: str
    product: str
    packages: tuple[PackageState, ...]
    gpus: tuple[Gpu, ...]
    gpu_problem: str | None
    jetson: str | None

    @property
    def compute_capability(self) -> int | None:
        """That of the first GPU, times ten, or of the Jetson; None if it is unknown or there is none."""
        known = (gpu.capability for gpu in self.gpus if gpu.capability is not None)
        return next(known, self._jetpack.capability if self._jetpack else None)

    @property
    def tensorrt(self) -> tuple[int, int] | None:
        """Major and minor version of the TensorRT that is installed, or that this Jetson's JetPack brings."""
        installed = next((p.version for p in self.packages if p.name == "tensorrt" and p.version), None)
        if installed and (match := re.match(r"(\d+)\.(\d+)", installed)):
            return int(match[1]), int(match[2])
        return self._jetpack.tensorrt if self._jetpack else None

    @property
    def machine(self) -> str:
        """What it is, as in Jetson with JetPack 6.1 or 6.2, NVIDIA L4, a machine without a GPU."""
        if self._jetpack:
            return f"Jetson with {self._jetpack.name}"
        return self.gpus[0].name if self.gpus else "Jetson" if self.jetson else "machine without a GPU"

    @property
    def _jetpack(self) -> _JetPack | None:
        release = self.jetson or ""
        return next((pack for start, pack in _JETPACKS.items() if release.startswith(start)), None)

    @property
    def missing(self) -> tuple[PackageState, ...]:
        """Packages that are absent, required ones first."""
        return tuple(sorted((p for p in self.packages if p.version is None), key=lambda p: not p.required))

    @property
    def usable(self) -> bool:
        """Whether every required package is there."""
        return not any(package.required for package in self.missing)

    @property
    def abilities(self) -> tuple[Ability, ...]:
        """What this machine can do, each with everything that stands in the way."""
        required = [p for p in self.missing if p.required]
        compiler = [p for p in self.missing if p.required or p.name in _COMPILER]
        device = [p for p in self.missing if p.required or p.name in _DEVICE_NEEDS]
        # A Jetson's GPU is part of the chip; older releases have no nvidia-smi to list it.
        no_gpu = () if self.gpus or self.jetson else ("there is no GPU",)
        here = (*map(_absence, device), *no_gpu)
        return (
            Ability("search", tuple(map(_absence, required))),
            Ability("compile engines for RTX GPUs", (*map(_absence, compiler), *self._unlike_compiler())),
            Ability("build engines", here),
            Ability("time engines", here),
        )

    def _unlike_compiler(self) -> tuple[str, ...]:
        """What stands in the way where the two parts of TensorRT for RTX are of different versions."""
        found = {p.version for p in self.packages if p.name in _COMPILER and p.version}
        unlike = f"its parts are of versions {' and '.join(sorted(found))} ({install_command('rtx', upgrade=True)})"
        return (unlike,) if len(found) > 1 else ()


def _absence(package: PackageState) -> str:
    return f"{package.name} is missing ({package.install})"


def diagnose() -> Diagnosis:
    """Look at this machine; takes at most some seconds and changes nothing."""
    from trt_mpq import __version__

    gpus, problem = _gpus()
    jetson = _jetson()
    return Diagnosis(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        product=__version__,
        packages=tuple(_state(dependency, jetson is not None) for dependency in _DEPENDENCIES),
        gpus=gpus,
        gpu_problem=problem,
        jetson=jetson,
    )


def _state(dependency: _Dependency, on_jetson: bool) -> PackageState:
    name, extra = dependency.distributions[0], dependency.extra
    install = install_command(extra, name)
    if name in _COMPILER and not _HAS_COMPILER:
        install = "not for this machine: its wheels are for Linux on x86-64"
    if on_jetson:
        install = _ON_JETSON.get(name, install)
    return PackageState(name, _version(dependency), not extra, dependency.needed_for, install)


def _version(dependency: _Dependency) -> str | None:
    known = next(filter(None, map(_distribution_version, dependency.distributions)), None)
    # A library may come without metadata, as from a system package.
    return known or ("unknown" if find_spec(dependency.module) else None)


def _distribution_version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def gpu_names() -> tuple[str, ...]:
    """What the GPUs of this machine are called; the Jetson where that is one."""
    if _TEGRA_MODEL.is_file():
        return (_TEGRA_MODEL.read_text(encoding="utf-8", errors="replace").strip("\0\n "),)
    return tuple(gpu.name for gpu in _gpus()[0])


def _gpus() -> tuple[tuple[Gpu, ...], str | None]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return (), "nvidia-smi is not installed: no NVIDIA driver here"
    told, problem = _told_by(tool, _GPU_FIELDS)
    if told is None:
        return (), problem
    gpus = _parse_gpus(told)
    capabilities, _ = _told_by(tool, "compute_cap") if gpus else (None, None)  # which old drivers do not know
    found = _parse_capabilities(capabilities or "")
    if len(found) == len(gpus):
        gpus = tuple(replace(gpu, capability=sm) for gpu, sm in zip(gpus, found, strict=True))
    return gpus, None if gpus else "nvidia-smi lists no GPU"


def _told_by(tool: str, fields: str) -> tuple[str | None, str | None]:
    """What nvidia-smi says of all GPUs, or why it does not."""
    command = [tool, f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_NVIDIA_SMI_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return None, f"nvidia-smi did not answer within {_NVIDIA_SMI_TIMEOUT_S:g} s: check the driver"
    except OSError as error:
        return None, f"nvidia-smi cannot be run: {error.strerror}"
    if answer.returncode != 0:
        return None, f"nvidia-smi failed: {' '.join((answer.stdout + answer.stderr).split())}"
    return answer.stdout, None


def _parse_capabilities(text: str) -> list[int | None]:
    """Compute capabilities times ten of lines such as 8.9."""
    matches = (re.fullmatch(r"(\d+)\.(\d)", line.strip()) for line in text.splitlines() if line.strip())
    return [10 * int(match[1]) + int(match[2]) if match else None for match in matches]


def _parse_gpus(text: str) -> tuple[Gpu, ...]:
    """GPUs from nvidia-smi's CSV of name, driver version and memory in MiB, one per line."""
    rows = (row for row in csv.reader(text.splitlines(), skipinitialspace=True) if len(row) == 3)
    return tuple(Gpu(name, driver, int(mib) if mib.isdigit() else None) for name, driver, mib in rows)


def _jetson() -> str | None:
    if not _TEGRA_RELEASE.is_file():
        return None
    return _parse_tegra_release(_TEGRA_RELEASE.read_text(encoding="utf-8", errors="replace"))


def _parse_tegra_release(text: str) -> str:
    """Jetson Linux release, as R36.4.3, from the first line of `/etc/nv_tegra_release`."""
    match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"R{match[1]}.{match[2]}" if match else "unknown release"
