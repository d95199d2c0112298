"""The child process of an engine build: `python -m trt_mpq.engine.worker REQUEST.json OUTCOME.json`."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from trt_mpq.artifacts.files import from_json, to_stored_json, write_text
from trt_mpq.errors import TrtMpqError
from trt_mpq.runtime.tensorrt.request import BuildRequest
from trt_mpq.types.engine import EngineBuild

_WATCH_S = 1.0


@dataclass(frozen=True)
class Outcome:
    """What the child leaves behind: a build, or an error that is not about this engine.

    Attributes:
        build: How the build ended.
        error: Name of an expected error in `trt_mpq.errors`, empty if there was none.
        message: Its message, or the traceback of a defect.
    """

    build: EngineBuild | None = None
    error: str = ""
    message: str = ""


def work(request: BuildRequest) -> Outcome:
    """Build, and turn whatever happens in Python into a value."""
    from trt_mpq.runtime.tensorrt.builder import build

    try:
        return Outcome(build(request))
    except TrtMpqError as error:
        return Outcome(error=type(error).__name__, message=str(error))
    except Exception:
        return Outcome(message=traceback.format_exc())


def _end_with(parent: int) -> None:
    """End this process soon after its parent: nobody waits for the engine, and the build would keep the GPU busy."""
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    os._exit(1)


def main(request: str, outcome: str) -> None:
    """Carry out the request in one file and write what came of it to another."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    result = work(from_json(Path(request).read_bytes(), BuildRequest))
    write_text(Path(outcome), to_stored_json(result, Outcome))


if __name__ == "__main__":
    main(*sys.argv[1:])
