"""Work that tests give to workers: picklable, and able to misbehave."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trt_mpq.errors import MissingDependencyError


@dataclass(frozen=True)
class Diary:
    """Opens work that notes in `folder` which process does what, and obeys its part.

    Parts are numbers, which are squared, or ("die", n), which kills its process the first n times, ("sleep", s),
    ("refuse", text), ("fail", text).
    """

    folder: Path

    def __call__(self) -> Callable[[Any], Any]:
        self._note("opened")
        return self._work

    def _work(self, part: Any) -> Any:
        self._note(f"{part}")
        match part:
            case ("die", times):
                if self.noted().count(str(part)) <= times:
                    os.kill(os.getpid(), signal.SIGKILL)
                return "survived"
            case ("sleep", seconds):
                time.sleep(seconds)
                return "awake"
            case ("refuse", text):
                raise MissingDependencyError(text, "a test", "pip install it")
            case ("fail", text):
                raise ZeroDivisionError(text)
        return part**2

    def noted(self) -> list[str]:
        """Everything that was opened or done, in no order."""
        return [line.split(" ", 1)[1] for line in self._lines()]

    def processes(self) -> set[int]:
        """Every process that was here."""
        return {int(line.split()[0]) for line in self._lines()}

    def _lines(self) -> list[str]:
        return [line for path in self.folder.glob("*.txt") for line in path.read_text(encoding="utf-8").splitlines()]

    def _note(self, text: str) -> None:
        with (self.folder / f"{os.getpid()}.txt").open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {text}\n")


def alive(process: int) -> bool:
    """Whether a process is there and does more than wait to be reaped."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def soon(condition: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether `condition` comes true within `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def workers_of(process: int) -> list[int]:
    """The worker processes that `process` started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
        except OSError:  # it ended meanwhile
            continue
        if parent == process and b"trt_mpq.workers.child" in command:
            found.append(int(folder.name))
    return found
