"""TensorRT's messages, kept where a crash cannot take them: in a file, one line each, written as they come."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorrt as trt

_ERROR, _WARNING = "[E] ", "[W] "
_WITH_DIGITS = re.compile(r"\S*\d\S*")


class BuildLog:
    """Warnings and errors of one build.

    Args:
        path: File to append to; other processes may append as well.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._errors: list[str] = []
        self._warnings: dict[str, str] = {}
        self._expecting = False

    @property
    def errors(self) -> tuple[str, ...]:
        """Errors so far, oldest first, one line each."""
        return tuple(self._errors)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The first warning of every kind, oldest first; those of one kind differ in words with digits at most."""
        return tuple(self._warnings.values())

    @property
    def complaint(self) -> str:
        """The last error, or warning if there was none: TensorRT 8.6 only warns that CUDA does not start."""
        return (self._errors or list(self._warnings.values()) or [""])[-1]

    @contextmanager
    def expecting_errors(self) -> Iterator[None]:
        """Errors inside the block are noted as warnings: they are no reason why a build fails later."""
        self._expecting = True
        try:
            yield
        finally:
            self._expecting = False

    def error(self, message: str) -> None:
        """Note an error."""
        if self._expecting:
            self.warning(message)
            return
        self._errors.append(_one_line(message))
        self._append(_ERROR, message)

    def warning(self, message: str) -> None:
        """Note a warning."""
        line = _one_line(message)
        self._warnings.setdefault(_WITH_DIGITS.sub("#", line), line)
        self._append(_WARNING, message)

    def for_tensorrt(self) -> trt.ILogger:
        """TensorRT's end of this log; it must live as long as everything made with it."""
        from trt_mpq.runtime.tensorrt.flavour import trt

        log = self

        class Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)  # super() would leave the C++ half of the object unmade

            def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
                if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                    log.error(msg)
                elif severity == trt.ILogger.WARNING:
                    log.warning(msg)

        return Logger()

    def _append(self, mark: str, message: str) -> None:
        # TensorRT calls from code that must not throw: an exception, say for a full disk, would end the process.
        with suppress(OSError), self._path.open("a", encoding="utf-8", errors="replace") as file:
            file.write(f"{mark}{_one_line(message)}\n")


def errors_in(path: Path) -> tuple[str, ...]:
    """Errors that a `BuildLog` wrote, oldest first; none if the file is absent."""
    if not path.exists():
        return ()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return tuple(line.removeprefix(_ERROR) for line in lines if line.startswith(_ERROR))


def _one_line(message: str) -> str:
    return " ".join(message.split())
