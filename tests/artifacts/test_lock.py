"""One process at a time in a run folder."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from trt_mpq.artifacts.lock import LOCK_FILE, hold
from trt_mpq.errors import RunFolderError

HOLDER = """
import sys, time
from pathlib import Path
from trt_mpq.artifacts.lock import hold
lock = hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    with process, process.stdout:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_another_process_is_refused_and_told_who_has_it(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    owner = re.escape(f"process {holder.pid} on {socket.gethostname()}")
    with pytest.raises(RunFolderError, match=f"is being worked on by {owner}: wait for it or choose another"):
        hold(tmp_path)
    assert f"process {holder.pid}" in (tmp_path / LOCK_FILE).read_text(encoding="utf-8"), "its note stays"


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    lock = hold(tmp_path)
    assert str(os.getpid()) in (tmp_path / LOCK_FILE).read_text(encoding="utf-8")
    del lock


def refused(folder: Path) -> bool:
    code = "import sys; from pathlib import Path; from trt_mpq.artifacts.lock import hold; hold(Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "RunFolderError" in done.stderr
    return done.returncode != 0


def test_within_a_process_it_is_shared_and_lasts_as_long_as_one_holds_it(tmp_path: Path) -> None:
    one, other = hold(tmp_path), hold(tmp_path / "." / "")
    assert one is other
    del one
    assert refused(tmp_path)
    del other
    assert not refused(tmp_path)


def test_a_folder_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="absent cannot be locked"):
        hold(tmp_path / "absent")
