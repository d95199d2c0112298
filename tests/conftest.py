"""Fixtures shared by the whole suite."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.compiler import NO_RTX
from trt_mpq.pipeline import compiler
from trt_mpq.runtime.tensorrt.flavour import found_version

pytest_plugins = ["tests.fakes.fixtures", "tests.delivered"]

settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with the real models and data, or a skip that says how to provide it."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TRT_MPQ_DATA", default))
    if not folder.is_dir():
        pytest.skip("real models and data are absent: set TRT_MPQ_DATA to their folder")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _without_compiler() -> Iterator[None]:
    """Runs in this process do without NVIDIA's compiler, which takes seconds; `nvidia_compiler` gives it back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "found_version", lambda flavour: None)
        yield


@pytest.fixture
def hears_hangups() -> Iterator[None]:
    """What the test starts hears SIGHUP, which is ignored by all that `nohup` starts."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def nvidia_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVIDIA's compiler for the runs of one test, or a skip that says how to install it."""
    if found_version("rtx") is None:
        pytest.skip(NO_RTX)
    monkeypatch.setattr(compiler, "found_version", found_version)
