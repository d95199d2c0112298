"""Whatever the user's code does, it ends as one error or as its result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trt_mpq.errors import MetricError
from trt_mpq.runtime.user_code import UserCodeError, import_user_function, running_user_code


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise ValueError


def endless() -> None:
    while True:
        try:
            while True:
                pass
        except Exception:
            continue


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ZeroDivisionError("x"), "raised ZeroDivisionError: x"),
        (SystemExit(0), r"called sys.exit\(0\)"),
        (SystemExit("bye"), r"called sys.exit\('bye'\)"),
        (GeneratorExit(), "raised GeneratorExit"),
        (BaseException("base"), "raised BaseException: base"),
        (UnprintableError(), "raised UnprintableError: an error whose text cannot be had"),
    ],
)
def test_whatever_is_raised_is_one_error(error: BaseException, words: str) -> None:
    with pytest.raises(UserCodeError, match=words), running_user_code():
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MetricError("ours")])
def test_interrupts_and_our_own_errors_pass(error: BaseException) -> None:
    with pytest.raises(type(error)), running_user_code():
        raise error


def test_code_that_never_returns_is_stopped() -> None:
    with pytest.raises(UserCodeError, match=r"took longer than 0.05 s"), running_user_code(0.05):
        endless()


def test_code_that_is_fast_enough_is_not(capfd: pytest.CaptureFixture[str]) -> None:
    with running_user_code(30):
        done = True
    assert done
    assert capfd.readouterr() == ("", "")


def test_what_it_prints_goes_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    with running_user_code():
        print("from Python")
        os.write(1, b"from C\n")
    print("result")
    out, err = capfd.readouterr()
    assert out == "result\n"
    assert set(err.splitlines()) == {"from Python", "from C"}


def test_a_module_that_ends_the_process_while_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "module_that_exits.py").write_text("import sys\nsys.exit()\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserCodeError, match=r"cannot be imported \(it called sys.exit\(None\)\)"):
        import_user_function("module_that_exits:f", "of anything")


def test_code_that_ends_the_process_at_once_is_an_error() -> None:
    with pytest.raises(UserCodeError, match=r"called os._exit\(0\)"), running_user_code():
        os._exit(0)


def test_a_module_that_ends_the_process_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "module_that_ends.py").write_text("from os import _exit\n_exit(0)\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserCodeError, match=r"cannot be imported \(it called os._exit\(0\)\)"):
        import_user_function("module_that_ends:f", "of anything")


def test_processes_that_it_forks_end_as_they_are_used_to() -> None:
    with running_user_code():
        child = os.fork()
        if child == 0:
            os._exit(7)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7


def test_onnx_runtime_reports_nothing_home(tmp_path: Path) -> None:
    code = (
        "import numpy, onnx_ir as ir; from trt_mpq.runtime.onnxruntime import OnnxRuntime;"
        "from tests.networks import mlp; OnnxRuntime().load(ir.serde.deserialize_model(mlp()))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        environment[name] = str(home)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, cwd=Path(__file__).parents[2])
    assert not list(home.rglob("*"))
