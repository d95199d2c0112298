"""Where parts are done: inside a worker process or a Ray actor."""

from __future__ import annotations

import contextlib
import pickle
import traceback

from trt_mpq.errors import TrtMpqError
from trt_mpq.workers.base import Outcome, Work


class TaskRunner:
    """Does parts; what the last initializer returned stays for the parts of the same one.

    Args:
        setup: A `Setup`, pickled, which is called now. What fails in it fails again where work needs it, and is said
            there.
    """

    def __init__(self, setup: bytes) -> None:
        self._initializer = b""
        self._work: Work | None = None
        with contextlib.suppress(Exception):
            pickle.loads(setup)()

    def do(self, initializer: bytes, part: bytes) -> Outcome:
        """Do a part, it and its initializer pickled; whatever happens in Python is an outcome."""
        try:
            if self._work is None or initializer != self._initializer:
                self._work = None  # first: it may hold much memory
                self._work, self._initializer = pickle.loads(initializer)(), initializer
            return Outcome(self._work(pickle.loads(part)))
        except (TrtMpqError, MemoryError) as error:
            return Outcome(error=error)
        except Exception:  # its class may not exist where it is read
            return Outcome(error=RuntimeError(f"a worker failed:\n{traceback.format_exc()}"))
