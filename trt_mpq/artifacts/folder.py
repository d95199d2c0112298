"""What makes a folder a run folder: it was created for a run, and holds nothing of anybody else's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from trt_mpq.artifacts.files import TEMPORARY, cannot_write, write_text
from trt_mpq.errors import RunFolderError

MARKER = ".trt-mpq"
"""Written first into every run folder."""

_NAMED = 3
"""So many entries that are in the way are named."""


def claim(folder: Path, *, known: bool) -> None:
    """Make `folder` a run folder, or recognise it as one.

    Args:
        folder: The folder; created if absent.
        known: Whether it is known to be one by what it holds.

    Raises:
        RunFolderError: It cannot be created or written, holds something that is no run's, or a symbolic link.
    """
    make_folder(folder)
    try:
        entries = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise RunFolderError(cannot_write(folder, error)) from error
    if MARKER not in entries:
        others = [name for name in entries if not name.startswith(TEMPORARY)]
        if others and not known:
            more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
            raise RunFolderError(
                f"{folder} is no run folder and not empty, it holds {', '.join(others[:_NAMED])}{more}: choose a new "
                "or an empty folder with -o"
            )
        write_text(folder / MARKER, "A run folder of trt-mpq: what lies here may be written anew.\n")
    for link in _links(folder):
        raise RunFolderError(
            f"{link} is a symbolic link, through which a run would write outside its folder: choose another folder "
            "with -o, or put the file itself there"
        )


def make_folder(path: Path) -> None:
    """Create a folder that can be written, if it is absent; raises RunFolderError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(cannot_write(path, error)) from error
    if not os.access(path, os.W_OK):
        raise RunFolderError(f"{path} is not writable: choose another folder with -o")


def sweep(folder: Path) -> None:
    """Remove what a run that was killed left half written; the caller holds the folder."""
    for path in folder.rglob(f"{TEMPORARY}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _links(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        yield from (path for name in (*folders, *files) if (path := Path(root) / name).is_symlink())
