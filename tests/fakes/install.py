"""Puts the fake tensorrt, pycuda and pynvml where Python finds them, in this process and in its children."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.fakes.packages.trt_fake.behaviour import Behaviour

VERSIONS = ("8.6", "10.16", "11.4")
_PACKAGES = Path(__file__).parent / "packages"
_NAMES = ("tensorrt", "pycuda", "pynvml", "trt_fake")
_RTX = "tensorrt_rtx_bindings"


def fake_packages(folder: Path, version: str, behaviour: Behaviour) -> Path:
    """Make `folder` a place to import the fakes from.

    Args:
        folder: For `sys.path` or PYTHONPATH; created if absent, and may be called again to change the behaviour.
        version: One of `VERSIONS`, or "rtx-1.7" for a machine that has TensorRT for RTX alone.
        behaviour: How device and builder behave.

    Returns:
        `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fake.json").write_text(json.dumps({"version": version, "behaviour": asdict(behaviour)}))
    names = [_RTX if name == "tensorrt" else name for name in _NAMES] if version.startswith("rtx-") else _NAMES
    for name in names:
        link = folder / name
        if not link.exists():
            link.symlink_to(_PACKAGES / name, target_is_directory=True)
    return folder


@contextmanager
def imported(folder: Path) -> Iterator[None]:
    """The fakes in `folder` are what this process imports inside the block."""
    forget()
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        forget()


def forget() -> None:
    """Remove the fakes from everything that remembers imports: Python, Polygraphy and the product's caches."""
    for name in [name for name in sys.modules if name.split(".")[0] in (*_NAMES, _RTX)]:
        del sys.modules[name]
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "polygraphy":
            for value in list(vars(module).values()):
                _forget_lazy(value)
    util = sys.modules.get("polygraphy.backend.trt.util")
    if util is not None:
        util.TRT_LOGGER = None
    for name, module in list(sys.modules.items()):
        if name.startswith("trt_mpq.runtime"):
            for value in list(vars(module).values()):
                if callable(getattr(value, "cache_clear", None)):
                    value.cache_clear()


def _forget_lazy(value: Any) -> None:
    """Make one of Polygraphy's lazy modules import again when it is next used."""
    if type(value).__name__ != "LazyModule":
        return
    loaded = vars(value).get("module")
    if loaded is not None and loaded.__name__ == "tensorrt":
        vars(value)["module"] = None
