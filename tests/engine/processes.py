"""What tests play in processes of their own, and whether these are gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trt_mpq import errors
from trt_mpq.runtime.tensorrt.request import BuildRequest, log_file
from trt_mpq.types.engine import BuildStatus, EngineBuild, Platform


@dataclass(frozen=True)
class Played:
    """A build that does what `script` says, and returns what it calls `found`."""

    script: str

    def __call__(self, request: BuildRequest) -> EngineBuild:
        engine = Path(request.engine)
        names: dict[str, Any] = {
            "request": request, "engine": engine, "log": log_file(engine), "errors": errors, "os": os, "signal": signal,
            "subprocess": subprocess, "sys": sys, "time": time, "BuildStatus": BuildStatus, "EngineBuild": EngineBuild,
            "Platform": Platform,
        }  # fmt: skip
        exec(self.script, names)
        found: EngineBuild = names["found"]
        return found


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
