"""Files that are whole or absent, digests of their content, and values as JSON."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from trt_mpq.errors import RunFolderError

TEMPORARY = ".trt-mpq."
"""How names of files and folders begin that are written beside their place and then renamed."""

T = TypeVar("T")
_CHUNK = 1 << 20


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def key_of(*parts: object) -> str:
    """Hex digest that is equal exactly if all `parts` are equal as JSON; raises an error for what JSON cannot say."""
    text = json.dumps(to_jsonable_python(parts), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def to_json(value: Any, kind: Any) -> str:
    """Indented JSON of a frozen dataclass (or any type pydantic knows) of type `kind`; NaN and infinity are null."""
    return TypeAdapter(kind).dump_json(value, indent=2).decode() + "\n"


def to_stored_json(value: Any, kind: Any) -> str:
    """The same for our own files: NaN and infinity, which JSON has no words for, survive `from_json`."""
    return json.dumps(TypeAdapter(kind).dump_python(value, mode="json"), indent=2) + "\n"


def from_json(text: str | bytes, kind: type[T]) -> T:
    """The value that one of the two wrote; raises pydantic's ValidationError."""
    return TypeAdapter(kind).validate_json(text)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block ends well, and vanishes otherwise.

    Raises:
        RunFolderError: The folder cannot be written or the disk is full.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f"{TEMPORARY}{path.name}.", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise RunFolderError(cannot_write(path, error)) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _flush(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise RunFolderError(cannot_write(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_arrays(arrays: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Write an `.npz`, atomically; raises RunFolderError. `numpy.savez` has no place for an array called "file"."""
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def not_through_a_link(path: str, flags: int) -> int:
    """An `opener` for `open` that refuses a symbolic link, behind which a file of somebody else's may lie."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def cannot_write(path: Path, error: OSError) -> str:
    """The sentence for a write to `path` that failed."""
    if error.errno == errno.ENOSPC:
        return f"the disk is full, {path} was not written: free some space and run the same command again"
    return f"cannot write {path} ({error.strerror or error}): choose another folder with -o"


def _flush(path: Path) -> None:
    """Force the content to disk, so that a power cut after the rename does not leave an empty file."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
