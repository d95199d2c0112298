"""Which TensorRT is talked to: TensorRT itself, or TensorRT for RTX, which compiles engines without a GPU.

They share an API, but for what `api` asks. Code that uses it says `from trt_mpq.runtime.tensorrt.flavour import trt`
where it would say `import tensorrt as trt`, and gets the one in use.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

from trt_mpq.errors import MissingDependencyError, RuntimeFailure, install_command
from trt_mpq.graph.onnx_api import first_line
from trt_mpq.types.engine import Flavour

if TYPE_CHECKING:
    import tensorrt as trt
else:

    def __getattr__(name: str) -> ModuleType:
        if name != "trt":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return load_tensorrt()


__all__ = ["flavour_in_use", "found_version", "load_tensorrt", "require_installed", "titled", "trt", "using"]


@dataclass(frozen=True)
class _Package:
    """Where a flavour is found: its module, the extra that installs it, and distributions that hold its libraries."""

    module: str
    title: str
    purpose: str
    extra: str
    libraries: tuple[str, ...] = ()

    @property
    def install(self) -> str:
        return install_command(self.extra)

    @property
    def missing(self) -> MissingDependencyError:
        return MissingDependencyError(self.module, self.purpose, self.install)


_PACKAGES: dict[Flavour, _Package] = {
    "tensorrt": _Package("tensorrt", "TensorRT", "building and running engines", "tensorrt"),
    "rtx": _Package(
        "tensorrt_rtx_bindings", "TensorRT for RTX", "compiling engines without a GPU", "rtx",
        libraries=("tensorrt-rtx-cu12-libs", "tensorrt-rtx-cu13-libs"),
    ),
}  # fmt: skip
_IN_USE: ContextVar[Flavour] = ContextVar("flavour", default="tensorrt")


@contextmanager
def using(flavour: Flavour) -> Iterator[None]:
    """Inside the block TensorRT is the one of `flavour`; blocks may nest."""
    token = _IN_USE.set(flavour)
    try:
        yield
    finally:
        _IN_USE.reset(token)


def flavour_in_use() -> Flavour:
    """The flavour of the innermost block of `using`; TensorRT itself outside of all."""
    return _IN_USE.get()


def titled() -> str:
    """Name and version of the TensorRT in use, for sentences; raises as `load_tensorrt`."""
    return f"{_PACKAGES[flavour_in_use()].title} {load_tensorrt().__version__}"


def load_tensorrt() -> ModuleType:
    """The module of the TensorRT in use.

    Raises:
        MissingDependencyError: It is not installed.
        RuntimeFailure: It is installed, but its libraries cannot be loaded, or are of another version.
    """
    package = _PACKAGES[flavour_in_use()]
    try:
        module = importlib.import_module(package.module)
    except ModuleNotFoundError as error:
        if error.name == package.module:
            raise package.missing from error
        raise _unloadable(package, error) from error
    except (ImportError, OSError) as error:  # a missing shared library is either, by version
        raise _unloadable(package, error) from error
    if not hasattr(module, "__version__"):  # any folder of that name in the current one is a namespace package
        del sys.modules[package.module]  # torch takes what it finds there for the real one
        raise package.missing
    _require_libraries(package, module.__version__)
    return module


def found_version(flavour: Flavour) -> str | None:
    """What is installed of a flavour, as far as can be told without loading it; None if nothing is."""
    package = _PACKAGES[flavour]
    if find_spec(package.module) is None:
        return None
    found = dict(filter(None, map(_distribution, package.libraries)))
    return ", ".join(f"{name} {number}" for name, number in found.items()) or "unknown"


def require_installed(flavour: Flavour) -> None:
    """Raise MissingDependencyError if nothing of a flavour is installed."""
    if found_version(flavour) is None:
        raise _PACKAGES[flavour].missing


def _unloadable(package: _Package, error: BaseException) -> RuntimeFailure:
    return RuntimeFailure(
        f"{package.module} is installed but cannot be loaded ({first_line(error)}): "
        f"reinstall it with `{package.install}`, or put its libraries on LD_LIBRARY_PATH"
    )


def _require_libraries(package: _Package, bindings: str) -> None:
    """Raise RuntimeFailure if the libraries come in wheels of their own, none of the version of the bindings."""
    found = dict(filter(None, map(_distribution, package.libraries)))
    if found and bindings not in found.values():
        name, other = next(iter(found.items()))
        raise RuntimeFailure(
            f"{package.title} is installed in two versions, {bindings} of {package.module} and {other} of {name}: "
            f"reinstall it with `{package.install} --upgrade`"
        )


def _distribution(name: str) -> tuple[str, str] | None:
    try:
        return name, version(name)
    except PackageNotFoundError:
        return None
