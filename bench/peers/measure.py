"""Wall time and peak memory of a process and everything it starts, seen from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_POLL_S = 0.1
_SESSION, _TIMES, _RSS = 3, slice(11, 15), 21
"""Fields of /proc/PID/stat behind the command's name (proc(5) numbers them 6, 14 to 17 and 24)."""
_STARVED = 10
"""How many times its CPU time a process may take by the clock."""


@dataclass(frozen=True)
class Measured:
    """What a process took.

    Attributes:
        seconds: Wall time.
        peak_mib: Largest sum of the resident memory of all its processes; pages they share count for each.
        code: Exit status; None if it ran out of time and was killed.
    """

    seconds: float
    peak_mib: float
    code: int | None


def measure(
    command: Sequence[str],
    folder: Path,
    log: Path,
    timeout_s: float,
    environment: Mapping[str, str],
    *,
    of_cpu: bool = False,
) -> Measured:
    """Run a command in a session of its own; at the end nothing of it is left.

    Args:
        command: Program and arguments.
        folder: Its working directory.
        log: Where its output goes, both streams.
        timeout_s: When it is killed.
        environment: Its environment variables.
        of_cpu: Whether it is killed by its CPU time, which no other work prolongs, and by the clock at ten times that.
    """
    started, peak, limit = time.perf_counter(), 0, timeout_s * (_STARVED if of_cpu else 1)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
        try:
            while process.poll() is None and time.perf_counter() - started < limit:
                used = list(_usage(process.pid))
                peak = max(peak, sum(resident for resident, _ in used))
                if of_cpu and sum(seconds for _, seconds in used) >= timeout_s:
                    break
                time.sleep(_POLL_S)
            code = process.poll()
            seconds = time.perf_counter() - started
        finally:
            _end(process)
    return Measured(seconds, peak / 2**20, code)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the session's first process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _usage(session: int) -> Iterator[tuple[int, float]]:
    """Resident bytes and CPU seconds, with those of ended children, of every process of a session, from /proc."""
    page, tick = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
                continue
            if int(fields[_SESSION]) == session:
                yield int(fields[_RSS]) * page, sum(map(int, fields[_TIMES])) / tick
