"""The real Python bindings of TensorRT, imported without TensorRT.

NVIDIA ships the Python layer in a wheel of its own, about a megabyte, which links to libraries of several gigabytes.
It needs them only to be called: stand-ins that define the few C symbols it imports let it be imported and looked at.
Each binding lives in a process of its own, for two versions cannot be imported side by side.

`python -m tests.contracts.bindings` records the facts and details of every version anew, after a version was raised.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.contracts.facts import HERE, RECORDED, details_path, facts_path

KEPT_PIP_SETTINGS = {
    f"PIP_{name}"
    for name in (
        *("INDEX_URL", "EXTRA_INDEX_URL", "FIND_LINKS", "NO_INDEX", "TRUSTED_HOST", "CERT", "CLIENT_CERT", "PROXY"),
        *("CONFIG_FILE", "CACHE_DIR", "KEYRING_PROVIDER"),
    )
}
"""How the package index is reached; every other `PIP_*` (targets, constraints, hashes, ...) is about installing."""


class BindingUnavailableError(Exception):
    """The binding cannot be had on this machine; the message says why."""


@dataclass(frozen=True)
class Wheel:
    """Where a binding comes from: its distribution, its exact version such as `10.16.1.11`, and the package in it."""

    distribution: str
    version: str
    package: str


def wheel_of(recorded: str) -> Wheel:
    """The wheel whose facts were recorded as a version such as `10.16` or `rtx-1.7`."""
    exact = json.loads(facts_path(recorded).read_text())["version"]
    if recorded.startswith("rtx-"):
        return Wheel("tensorrt-rtx-cu12-bindings", exact, "tensorrt_rtx_bindings")
    return Wheel("tensorrt-cu13-bindings", exact, "tensorrt_bindings")


@dataclass(frozen=True)
class Binding:
    """The folder that an unpacked binding lies in, the name of its package, and the stand-ins it links to."""

    folder: Path
    package: str
    libraries: Path

    def dump(self) -> dict[str, Any]:
        """The binding's whole public API, see `dump.py`."""
        libraries = os.pathsep.join(filter(None, (str(self.libraries), os.environ.get("LD_LIBRARY_PATH"))))
        run = subprocess.run(
            [sys.executable, "-I", "-S", HERE / "dump.py", self.folder, self.package],
            env={**os.environ, "LD_LIBRARY_PATH": libraries},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if run.returncode != 0:
            raise RuntimeError(f"the binding in {self.folder} cannot be imported:\n{run.stderr}")
        dumped: dict[str, Any] = json.loads(run.stdout)
        return dumped


def binding(wheel: Wheel, cache: Path) -> Binding:
    """The binding of a wheel, fetched once and kept below `cache`.

    Raises:
        BindingUnavailableError: No C compiler, no wheel for this Python, or no way to the package index.
    """
    if sys.platform != "linux":
        raise BindingUnavailableError("the stand-ins for TensorRT's libraries are made for Linux")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or shutil.which("nm") is None:
        raise BindingUnavailableError("no C compiler (cc) and nm here to make the stand-ins for TensorRT's libraries")
    folder = cache / f"{wheel.distribution}-{wheel.version}-{sys.implementation.cache_tag}"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            made = Path(scratch) / "binding"
            made.mkdir()
            _unpack(_download(wheel, Path(scratch)), made / "package")
            unpacked = Binding(made / "package", wheel.package, made / "libraries")
            _compile_stand_ins(compiler, unpacked)
            try:
                made.rename(folder)
            except OSError:
                if not folder.is_dir():  # where it is one, another session was faster
                    raise
    return Binding(folder / "package", wheel.package, folder / "libraries")


def shared_object(binding: Binding) -> Path:
    """The compiled module of an unpacked binding."""
    (found,) = binding.folder.glob(f"{binding.package}/tensorrt*.so")
    return found


def imported_symbols(module: Path) -> list[str]:
    """C symbols a compiled binding expects from TensorRT's libraries, sorted."""
    listing = subprocess.run(["nm", "-D", "-P", module], capture_output=True, text=True, check=True).stdout
    undefined = (line.split()[0] for line in listing.splitlines() if line.split()[1] == "U")
    # Symbols of the C and C++ libraries mostly carry a version (`@GLIBC_2.14`) or a mangled name, those of Python a
    # prefix; the rest of the C library (`dlopen`) is already in this process.
    foreign = (name for name in undefined if "@" not in name and not name.startswith(("_", "Py")))
    here = ctypes.CDLL(None)
    return sorted(name for name in foreign if not hasattr(here, name))


def needed_libraries(module: Path) -> list[str]:
    """TensorRT's libraries a compiled binding links to, such as `libnvinfer.so.10`, sorted."""
    return sorted({name.decode() for name in re.findall(rb"lib(?:nv|tensorrt)\w+\.so\.\d+(?=\0)", module.read_bytes())})


def _compile_stand_ins(compiler: str, binding: Binding) -> None:
    """One library per name the module links to, each with all its symbols; calling one of them ends the process."""
    module, folder = shared_object(binding), binding.libraries
    folder.mkdir()
    source = folder / "stand_in.c"
    source.write_text("".join(f"void {name}(void) {{ __builtin_trap(); }}\n" for name in imported_symbols(module)))
    for library in needed_libraries(module):
        command: list[str | Path] = [
            compiler,
            "-shared",
            "-fPIC",
            f"-Wl,-soname,{library}",
            "-o",
            folder / library,
            source,
        ]
        subprocess.run(command, check=True, capture_output=True, text=True)


def _download(wheel: Wheel, folder: Path) -> Path:
    """Let pip choose and fetch the wheel, without installing anything."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary=:all:", "--retries=1", "--timeout=20", f"--dest={folder}"]
    env = {k: v for k, v in os.environ.items() if not k.startswith("PIP_") or k in KEPT_PIP_SETTINGS}
    try:
        run = subprocess.run(
            [*command, f"{wheel.distribution}=={wheel.version}"],
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BindingUnavailableError(f"the package index did not answer: {error}") from error
    wheels = list(folder.glob("*.whl"))
    if run.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    said = run.stdout + run.stderr
    if "No module named pip" in said:
        raise BindingUnavailableError(f"{sys.executable} has no pip to fetch {wheel.distribution}")
    if "No matching distribution" in said:
        where = "the package index is unreachable" if "Retrying (" in said else "the package index has no such wheel"
        raise BindingUnavailableError(f"{wheel.distribution} {wheel.version}, {sys.implementation.cache_tag}: {where}")
    raise RuntimeError(f"pip could not fetch {wheel.distribution} {wheel.version}:\n{said}")


def _unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)


def _record() -> None:
    with tempfile.TemporaryDirectory() as cache:
        for version in RECORDED:
            dumped = binding(wheel_of(version), Path(cache)).dump()
            facts, details = dumped["facts"], dumped["details"]
            facts_path(version).write_text(_lines({"version": facts["version"]}, "classes", facts["classes"]))
            others = {key: details[key] for key in ("functions", "constants")}
            details_path(version).write_text(_lines(others, "classes", details["classes"]))


def _lines(head: dict[str, Any], key: str, entries: dict[str, Any]) -> str:
    """JSON with one line per entry, so that a new version shows as a readable diff."""

    def compact(value: object) -> str:
        return json.dumps(value, separators=(",", ":"))

    rows = ",\n".join(f"{compact(name)}:{compact(entry)}" for name, entry in entries.items())
    return f'{compact(head)[:-1]},"{key}":{{\n{rows}\n}}}}\n'


if __name__ == "__main__":
    _record()
