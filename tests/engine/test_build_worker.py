"""The child process itself, without TensorRT: it says so, and it does not outlive its parent."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import trt_mpq.runtime.tensorrt.builder as builder
from tests.engine.processes import is_gone
from trt_mpq.artifacts.files import from_json, to_stored_json
from trt_mpq.engine.build import build_engine
from trt_mpq.engine.worker import Outcome, main, work
from trt_mpq.errors import MissingDependencyError, SettingsError
from trt_mpq.runtime.tensorrt.request import BuildRequest
from trt_mpq.settings import EngineOptions
from trt_mpq.types.engine import BuildStatus, EngineBuild

REQUEST = BuildRequest(
    onnx="typed.onnx", engine="plan.plan", typing="strong", options=EngineOptions(), timing_cache="caches"
)


def test_without_tensorrt_the_real_child_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The module is hidden for this test, so it holds where TensorRT is installed as well."""
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "tensorrt.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'tensorrt'\", name='tensorrt')"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hidden"))
    with pytest.raises(MissingDependencyError, match=r"tensorrt is not installed.*pip install 'trt-mpq\[tensorrt\]'"):
        build_engine(REQUEST, tmp_path / "engine")
    assert not any((tmp_path / "engine").glob("*.plan"))


def test_the_outcome_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = EngineBuild(BuildStatus.FAILED, "strong", 1.5, errors=("no kernel",), reason="TensorRT could not")
    monkeypatch.setattr(builder, "build", lambda request: build)
    (tmp_path / "request.json").write_text(to_stored_json(REQUEST, BuildRequest))
    main(str(tmp_path / "request.json"), str(tmp_path / "outcome.json"))
    assert from_json((tmp_path / "outcome.json").read_bytes(), Outcome) == Outcome(build)


def test_expected_errors_and_defects_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(request: BuildRequest) -> EngineBuild:
        raise SettingsError("no such DLA core")

    def stumble(request: BuildRequest) -> EngineBuild:
        raise KeyError("tensor")

    monkeypatch.setattr(builder, "build", refuse)
    assert work(REQUEST) == Outcome(error="SettingsError", message="no such DLA core")
    monkeypatch.setattr(builder, "build", stumble)
    outcome = work(REQUEST)
    assert (outcome.build, outcome.error) == (None, "")
    assert "KeyError: 'tensor'" in outcome.message


def test_the_child_ends_soon_after_its_parent(tmp_path: Path) -> None:
    """The child here would work for a minute; its parent is killed, as a run is that the system stops."""
    (tmp_path / "child.py").write_text(
        "import os, sys, time\n"
        "import trt_mpq.engine.worker as worker\n"
        "worker.work = lambda request: (print(os.getpid(), flush=True), time.sleep(60))\n"
        "worker.main(*sys.argv[1:])\n"
    )
    (tmp_path / "request.json").write_text(to_stored_json(REQUEST, BuildRequest))
    command = [sys.executable, str(tmp_path / "child.py"), str(tmp_path / "request.json"), str(tmp_path / "out.json")]
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess; subprocess.run({command!r})"], stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert is_gone(child)
