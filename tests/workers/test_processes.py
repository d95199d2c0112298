"""Real worker processes: what they return, how they die, and that none is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from functools import partial
from pathlib import Path

import pytest

from tests.workers.work import Diary, alive, soon
from trt_mpq.errors import MissingDependencyError, RuntimeFailure
from trt_mpq.workers import worker_pool
from trt_mpq.workers.pool import TRIES, WorkerPool
from trt_mpq.workers.processes import Processes


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path)


@pytest.fixture(scope="module")
def pool() -> WorkerPool:
    pool = WorkerPool(Processes(2))
    yield pool
    pool.close()


def test_one_worker_is_this_process() -> None:
    assert worker_pool(1, None) is None


def test_parts_are_done_elsewhere_and_opened_once(pool: WorkerPool, diary: Diary) -> None:
    assert list(pool.map(diary, [3, 1, 2, 5, 4, 6])) == [9, 1, 4, 25, 16, 36]
    assert os.getpid() not in diary.processes()
    assert len(diary.processes()) == 2
    assert diary.noted().count("opened") == 2


def test_a_killed_worker_loses_nothing(pool: WorkerPool, diary: Diary) -> None:
    parts = [1, ("die", 1), 2, 3, ("die", 2)]
    assert list(pool.map(diary, parts)) == [1, "survived", 4, 9, "survived"]
    assert [diary.noted().count(f"('die', {times})") for times in (1, 2)] == [2, 3]
    assert [diary.noted().count(part) for part in "123"] == [1, 1, 1], "what was done is not done again"


def test_a_worker_killed_from_outside_is_replaced(pool: WorkerPool, diary: Diary) -> None:
    def kill() -> None:
        soon(lambda: "('sleep', 1)" in diary.noted())
        victim = next(int(p.stem) for p in diary.folder.glob("*.txt") if "sleep" in p.read_text(encoding="utf-8"))
        os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    assert list(pool.map(diary, [("sleep", 1), 2, 3])) == ["awake", 4, 9]
    killer.join()
    assert diary.noted().count("('sleep', 1)") == 2


def test_what_kills_every_worker_is_an_error(pool: WorkerPool, diary: Diary) -> None:
    with pytest.raises(RuntimeFailure, match="the last one was ended by SIGKILL"):
        list(pool.map(diary, [("die", TRIES)]))


def test_errors_arrive_as_what_they_are(pool: WorkerPool, diary: Diary) -> None:
    with pytest.raises(
        MissingDependencyError, match="ether is not installed and a test needs it: run `pip install it`"
    ):
        list(pool.map(diary, [("refuse", "ether")]))


def test_a_defect_brings_its_traceback(pool: WorkerPool, diary: Diary) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)a worker failed:.*_work.*ZeroDivisionError: by nothing"):
        list(pool.map(diary, [("fail", "by nothing")]))


def test_giving_up_ends_the_work_at_once(diary: Diary) -> None:
    pool = WorkerPool(Processes(2))
    results = pool.map(diary, [1, ("sleep", 600), ("sleep", 600)])
    assert next(results) == 1
    assert soon(lambda: diary.noted().count("('sleep', 600)") == 2)
    results.close()
    assert not any(map(alive, diary.processes()))


def test_every_worker_is_set_up_and_none_fails_for_it(diary: Diary) -> None:
    pool = WorkerPool(Processes(2, diary))
    pool.start()
    assert soon(lambda: diary.noted() == ["opened"] * 2)
    pool.close()
    failing = WorkerPool(Processes(2, partial(divmod, 1, 0)))
    assert list(failing.map(diary, [2, 3])) == [4, 9]
    failing.close()


@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 1)], ids=str)
def test_no_worker_outlives_the_process_that_hired_it(diary: Diary, how: signal.Signals, code: int) -> None:
    # A shell that starts the tests in the background has its children ignore SIGINT.
    script = f"""
        import signal
        from pathlib import Path
        from tests.workers.work import Diary
        from trt_mpq.workers import worker_pool
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            list(worker_pool(2, None).map(Diary(Path({str(diary.folder)!r})), [("sleep", 600), ("sleep", 600)]))
        except KeyboardInterrupt:
            raise SystemExit(1)
    """
    leader = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    assert soon(lambda: diary.noted().count("('sleep', 600)") == 2)
    assert all(map(alive, diary.processes()))
    leader.send_signal(how)
    assert leader.wait(60) == code
    assert soon(lambda: not any(map(alive, diary.processes())), 10)
