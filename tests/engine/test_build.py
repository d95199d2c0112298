"""The process around a build: crashes, hangs, errors and interrupts, played by stand-ins for TensorRT."""

from __future__ import annotations

import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engine.processes import Played, is_gone
from trt_mpq.engine.build import build_engine
from trt_mpq.errors import MissingDependencyError, RunFolderError, RuntimeFailure, SettingsError
from trt_mpq.runtime.tensorrt.request import BuildRequest
from trt_mpq.settings import EngineOptions
from trt_mpq.types.engine import BuildStatus, EngineBuild, Platform
from trt_mpq.workers.processes import WorkerProcess

PLATFORM = Platform("NVIDIA T4", 75, "8.6.0", "12.2", "535.1")

_BUILT = """
engine.write_bytes(b"engine")
engine.with_suffix(".layers.json").write_text("{}")
found = EngineBuild(
    BuildStatus.BUILT, request.typing, 0.5, engine=engine.name, size_bytes=6, layers="plan.layers.json",
    unused=("sparsity: no",), platform=Platform("NVIDIA T4", 75, "8.6.0", "12.2", "535.1"),
)
"""


def request(timeout_s: float = 60.0) -> BuildRequest:
    options = EngineOptions(build_timeout_s=timeout_s)
    return BuildRequest(onnx="typed.onnx", engine="plan.plan", typing="strong", options=options, timing_cache="")


def played(folder: Path, script: str, timeout_s: float = 60.0) -> EngineBuild:
    return build_engine(request(timeout_s), folder, Played(textwrap.dedent(script)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_built_engine_and_its_layers_appear_together(folder: Path) -> None:
    build = played(folder, _BUILT)
    assert build.built
    assert (build.engine, build.layers, build.size_bytes, build.platform) == (
        "plan.plan",
        "plan.layers.json",
        6,
        PLATFORM,
    )
    assert build.unused == ("sparsity: no",)
    assert names(folder) == ["plan.layers.json", "plan.log", "plan.plan"]
    assert (folder / "plan.plan").read_bytes() == b"engine"


def test_the_time_is_that_of_the_process(folder: Path) -> None:
    started = time.monotonic()
    build = played(folder, "time.sleep(0.2)\n" + _BUILT)
    assert 0.2 <= build.seconds <= time.monotonic() - started


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT"])
def test_a_crash_is_an_outcome_with_the_last_words_of_tensorrt(folder: Path, name: str) -> None:
    build = played(
        folder,
        f"""
        log.write_text("[W] slow\\n[E] first: no kernel\\nterminate called\\n[E] last: giving up\\n")
        engine.write_bytes(b"half an eng")
        os.kill(os.getpid(), signal.{name})
        """,
    )
    assert build.status is BuildStatus.CRASHED
    assert build.reason == (f"the build of typed.onnx crashed with {name}; TensorRT's last error was: last: giving up")
    assert build.errors == ("first: no kernel", "last: giving up")
    assert (build.engine, build.layers, build.typing) == (None, None, "strong")
    assert names(folder) == ["plan.log"]


def test_a_kill_says_that_memory_may_have_run_out(folder: Path) -> None:
    build = played(folder, "os.kill(os.getpid(), signal.SIGKILL)")
    assert build.status is BuildStatus.CRASHED
    assert build.reason == ("the build of typed.onnx was killed (SIGKILL), which the system does when memory runs out")


def test_an_end_without_a_result_is_a_crash(folder: Path) -> None:
    build = played(folder, "os._exit(3)")
    assert build.status is BuildStatus.CRASHED
    assert "ended without a result, with exit code 3" in build.reason


def test_a_hang_ends_with_all_that_it_started(folder: Path) -> None:
    build = played(
        folder,
        """
        log.write_text("[E] stuck at node 7\\n")
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        (engine.parents[2] / "stand_in.pids").write_text(f"{os.getpid()} {child.pid}")
        time.sleep(60)
        """,
        timeout_s=5.0,
    )
    assert build.status is BuildStatus.TIMED_OUT
    assert build.reason == (
        "the build of typed.onnx was stopped after 5 s (build_timeout_s); TensorRT's last error was: stuck at node 7"
    )
    assert build.seconds < 30
    assert names(folder) == ["plan.log"]
    for pid in (folder.parent / "stand_in.pids").read_text().split():
        assert is_gone(int(pid))


def test_a_compiler_that_waits_for_itself_is_ended_and_its_limit_named(folder: Path) -> None:
    script = """
        import threading
        from trt_mpq.workers.idle import ended_when_idle
        with ended_when_idle(2):
            threading.Event().wait()
    """
    options = EngineOptions(compile_memory_mib=40, compile_timeout_s=60)
    build = build_engine(
        replace(request(), options=options, flavour="rtx", capabilities=(89,)), folder, Played(textwrap.dedent(script))
    )
    assert build.status is BuildStatus.CRASHED
    assert build.reason == (
        "the compilation of typed.onnx stopped computing without an end, which is likely the limit of 40 MiB "
        "(compile_memory_mib)"
    )
    assert build.seconds < 50, "long before the timeout"


def test_who_computes_is_not_idle(folder: Path) -> None:
    script = """
        import time
        from trt_mpq.workers.idle import ended_when_idle
        with ended_when_idle(1):
            ends = time.monotonic() + 4
            while time.monotonic() < ends:
                sum(range(1000))
        raise SystemExit(3)
    """
    assert "exit code 3" in (played(folder, script).reason or "")


def test_an_interrupt_ends_the_build_and_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    def interrupted(self: WorkerProcess, timeout_s: float | None = None) -> None:
        started.append(self.pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(WorkerProcess, "outcome", interrupted)
    with pytest.raises(KeyboardInterrupt):
        played(folder, "time.sleep(60)")
    assert is_gone(started[0], within_s=0.1)
    assert names(folder) == ["plan.log"]


@pytest.mark.parametrize("kind", [SettingsError, RuntimeFailure, RunFolderError, MissingDependencyError])
def test_an_error_that_is_not_about_the_engine_is_raised_here(folder: Path, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"^pycuda is not installed: install it$"):
        played(
            folder,
            f'raise errors.{kind.__name__}.__new__(errors.{kind.__name__}, "pycuda is not installed: install it")',
        )


def test_a_defect_in_the_child_is_a_defect_here_with_its_traceback(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError: division by zero"):
        played(folder, "1 / 0")


def test_a_refusal_by_tensorrt_comes_back_as_it_is(folder: Path) -> None:
    build = played(
        folder,
        """
        found = EngineBuild(BuildStatus.FAILED, "strong", 1.0, errors=("a", "b"), reason="why")
        """,
    )
    assert (build.status, build.errors, build.reason) == (BuildStatus.FAILED, ("a", "b"), "why")


def test_an_earlier_engine_of_that_name_does_not_survive_a_failed_build(folder: Path) -> None:
    assert played(folder, _BUILT).built
    assert not played(folder, "os._exit(1)").built
    assert names(folder) == ["plan.log"]


def test_what_the_child_prints_stays_out_of_our_output(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    played(folder, 'os.write(1, b"native chatter\\n")\nos.write(2, b"native complaint\\n")\n' + _BUILT)
    assert capfd.readouterr() == ("", "")
    assert (folder / "plan.log").read_text() == "native chatter\nnative complaint\n"


def test_a_relative_path_of_the_engine_is_not_nested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = replace(request(), engine="run/builds/plan.plan")
    assert build_engine(asked, Path("run/builds"), Played(_BUILT)).built
    assert names(Path("run/builds")) == ["plan.layers.json", "plan.log", "plan.plan"]


def test_what_a_killed_build_left_goes(folder: Path) -> None:
    (folder / ".build-killed").mkdir(parents=True)
    (folder / ".build-killed" / "half.plan").write_bytes(b"half")
    assert played(folder, _BUILT).built
    assert names(folder) == ["plan.layers.json", "plan.log", "plan.plan"]


def test_a_library_in_the_working_directory_is_not_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever leaves a file called `pickle.py` in a folder must not run code of those who work there."""
    trap = folder.parent / "trap"
    trap.mkdir()
    for name in ("pickle", "numpy", "onnx", "json", "signal", "sitecustomize", "usercustomize"):
        (trap / f"{name}.py").write_text(f"from pathlib import Path; Path({str(trap)!r}, 'caught').touch()\n")
    monkeypatch.chdir(trap)
    monkeypatch.setenv("PYTHONPATH", str(trap))
    assert played(folder, _BUILT).built
    assert not (trap / "caught").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"cannot write .*file/engine"):
        build_engine(request(), tmp_path / "file" / "engine")
