"""Every failure ends in one line and an exit code."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys

import pytest
import typer

from trt_mpq.cli.errors import Stopped, guarded
from trt_mpq.errors import DataError, MissingDependencyError, TargetNotReachable


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (DataError("calib.npz lacks 'input'"), 2, "error: calib.npz lacks 'input'"),
        (TargetNotReachable("the best plan\n  keeps 0.9"), 2, "error: the best plan keeps 0.9"),
        (MissingDependencyError("torch", "autograd", "pip install torch"), 2, "run `pip install torch`"),
        (OSError(errno.ENOSPC, "No space left on device", "/run/x"), 2, "No space left on device (/run/x)"),
        (PermissionError(errno.EACCES, "Permission denied", "calib.npz"), 2, "Permission denied (calib.npz)"),
        (MemoryError(), 2, "--batch"),
        (KeyboardInterrupt(), 130, "interrupted; run the same command to resume"),
        (Stopped(signal.SIGTERM), 143, "stopped by SIGTERM; run the same command to resume"),
        (DataError("input \x1b]0;owned\x07 is \x1b[2J gone"), 2, "error: input \ufffd]0;owned\ufffd is \ufffd[2J gone"),
        (DataError("x" * 5000), 2, "xxx..."),
        (KeyError("stem"), 1, "KeyError: 'stem'"),
        (AssertionError(), 1, "(AssertionError)"),
    ],
)
def test_sentence_and_exit_code(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise error

    with pytest.raises(typer.Exit) as stop:
        guarded(command)()
    written = capsys.readouterr()
    assert stop.value.exit_code == code
    assert words in written.err
    assert (written.err.count("\n"), written.out) == (1, "")
    assert len(written.err) < 1100


@pytest.mark.parametrize(("debug", "traceback"), [("1", True), ("0", False)])
def test_the_traceback_is_for_debugging(
    debug: str, traceback: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRT_MPQ_DEBUG", debug)

    def command() -> None:
        raise LookupError("deep inside")

    with pytest.raises(typer.Exit) as stop:
        guarded(command)()
    written = capsys.readouterr()
    assert stop.value.exit_code == 1
    assert written.out == ""
    assert written.err.splitlines()[-1].startswith("sorry, this is a bug in trt-mpq (LookupError: deep inside)")
    assert ("Traceback" in written.err) == traceback


def test_typers_own_exit_passes() -> None:
    def command() -> None:
        raise typer.Exit(7)

    with pytest.raises(typer.Exit) as stop:
        guarded(command)()
    assert stop.value.exit_code == 7


@pytest.mark.parametrize("say", ["print('line ' * 20, file=results())", "Console(file=results()).print('line ' * 20)"])
def test_a_reader_that_leaves_is_no_error(say: str) -> None:
    code = f"""
import typer
from trt_mpq.cli.errors import Stopped, guarded
from trt_mpq.workers.streams import results
from rich.console import Console
app = typer.Typer()
@app.command()
@guarded
def talk() -> None:
    for _ in range(100_000):
        {say}
app()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as talker:
        assert talker.stdout is not None
        assert talker.stderr is not None
        talker.stdout.readline()
        talker.stdout.close()
        assert talker.stderr.read() == b""
        assert talker.wait(timeout=60) == 141
