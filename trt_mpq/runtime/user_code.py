"""The user's own Python, named `module:attribute`: a metric, a factory of a network."""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_reference(text: str) -> bool:
    """Whether `text` reads as `module:attribute`; a path with a suffix, or of a drive, does not."""
    return _REFERENCE.fullmatch(text) is not None


def import_reference(reference: str) -> Any:
    """What `module:attribute` names, also looked for in the current directory.

    Raises:
        Exception: Whatever the user's module raises while it is imported, or AttributeError.
    """
    module, _, attribute = reference.partition(":")
    with importable_current_folder():
        return getattr(importlib.import_module(module), attribute)


@contextlib.contextmanager
def importable_current_folder() -> Iterator[None]:
    """Let the user's code import from the current directory while the block runs."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the user's code may have removed it
            sys.path.remove(folder)
