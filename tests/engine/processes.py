"""Whether processes that a test started are gone."""

from __future__ import annotations

import time
from pathlib import Path


def is_gone(pid: int, within_s: float = 10.0) -> bool:
    """Whether a process ends in time; one that is dead and that nobody has reaped counts as gone."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False
