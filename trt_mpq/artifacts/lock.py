"""One process at a time writes into a run folder."""

from __future__ import annotations

import fcntl
import os
import socket
import weakref
from pathlib import Path
from typing import IO

from trt_mpq.artifacts.files import not_through_a_link
from trt_mpq.errors import RunFolderError

LOCK_FILE = "run.lock"


class FolderLock:
    """Holds a run folder for this process, until the object or the process ends.

    The file says which process on which host has it. What locks is a POSIX record lock on it: the system takes it back
    from a process that was killed, so that no lock is ever stale, and network file systems carry it from host to host.

    Args:
        folder: The run folder.

    Attributes:
        excludes: Whether it keeps others out; not on file systems that know no locks.

    Raises:
        RunFolderError: Another process has it, or the file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        try:
            file = open(folder / LOCK_FILE, "a+", encoding="utf-8", opener=not_through_a_link)  # noqa: SIM115
            weakref.finalize(self, file.close)
            self.excludes = _lock(file, folder)
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        except OSError as error:
            raise RunFolderError(f"{folder} cannot be locked ({error.strerror}): choose another with -o") from error


def hold(folder: Path) -> FolderLock:
    """The lock of `folder`; within this process whoever asks shares it, and it lasts as long as one of them.

    Raises:
        RunFolderError: Another process has the folder, or it cannot be written.
    """
    path = folder.resolve()
    lock = _HELD.get(path) or FolderLock(path)
    _HELD[path] = lock
    return lock


_HELD: weakref.WeakValueDictionary[Path, FolderLock] = weakref.WeakValueDictionary()
"""POSIX locks belong to the process, and go when it closes the file anywhere: so it is opened once."""


def _lock(file: IO[str], folder: Path) -> bool:
    """Whether the file is locked now; it is not where the file system knows no locks."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:  # POSIX leaves open which
        file.seek(0)
        owner = file.read().strip() or "another process"
        raise RunFolderError(
            f"{folder} is being worked on by {owner}: wait for it or choose another folder with -o"
        ) from error
    except OSError:
        return False
    return True
