"""Fixtures that pretend a GPU: a test module has them with `pytest_plugins = ["tests.fakes.fixtures"]`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.install import VERSIONS, fake_packages, imported
from tests.fakes.packages.trt_fake.behaviour import Behaviour

PretendGpu = Callable[..., Path]
"""`pretend(version="10.16", **behaviour)`: from now on that device; returns the folder of the fakes."""


@pytest.fixture(params=VERSIONS)
def trt_version(request: pytest.FixtureRequest) -> str:
    """Every version there is a fake of."""
    return str(request.param)


@pytest.fixture
def pretend_gpu(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendGpu]:
    """A function that pretends a device; a later call replaces the earlier device."""
    with ExitStack() as stack:

        def pretend(version: str = "10.16", **behaviour: Any) -> Path:
            stack.close()
            folder = fake_packages(tmp_path_factory.mktemp("fakes"), version, Behaviour(**behaviour))
            stack.enter_context(imported(folder))
            monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
            _replace_driver_library(monkeypatch)
            return folder

        yield pretend


@pytest.fixture
def fake_gpu(pretend_gpu: PretendGpu, request: pytest.FixtureRequest) -> Path:
    """An ordinary device with TensorRT 10.16, or with the version (and behaviour) of an indirect parameter."""
    wanted = getattr(request, "param", "10.16")
    return pretend_gpu(**wanted) if isinstance(wanted, dict) else pretend_gpu(wanted)


def _replace_driver_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give `trt_mpq.runtime.cuda` the fake's CUDA graphs, and timing the fake's host clock."""
    from trt_fake import world
    from trt_fake.libcuda import DriverLibrary

    library = DriverLibrary()
    monkeypatch.setattr("trt_mpq.runtime.cuda._driver_library", lambda: library)
    monkeypatch.setattr("trt_mpq.runtime.tensorrt.timer.perf_counter", lambda: world.clock().perf_counter())
