"""Files that are whole or absent, and the run folder that lets an interrupted run go on."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from trt_mpq.errors import RunFolderError

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
    """Hex digest that is equal exactly if all `parts` are equal as JSON."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def to_json(value: Any, kind: Any) -> str:
    """Indented JSON of a frozen dataclass (or any type pydantic knows) of type `kind`."""
    return TypeAdapter(kind).dump_json(value, indent=2).decode() + "\n"


def from_json(text: str | bytes, kind: type[T]) -> T:
    """The value `to_json` wrote; raises pydantic's ValidationError."""
    return TypeAdapter(kind).validate_json(text)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block ends well, and vanishes otherwise.

    Raises:
        RunFolderError: The folder cannot be written or the disk is full.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise RunFolderError(_cannot_write(path, error)) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise RunFolderError(_cannot_write(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


class RunFolder:
    """A folder with one file per finished stage and a manifest that says from which inputs each was made.

    Args:
        path: The folder; created if absent.
        source_sha256: Digest of the model file this run is about.

    Raises:
        RunFolderError: It cannot be created or written, its manifest is damaged, or it is another model's.
    """

    MANIFEST = "manifest.json"

    def __init__(self, path: Path, source_sha256: str) -> None:
        self.path = path
        self._make(path)
        self._manifest = read_manifest(path)
        owner = self._manifest.get("source_sha256")
        if owner is None and any(path.glob("*.onnx")):
            raise RunFolderError(
                f"{path} holds ONNX files but no {self.MANIFEST}: it is no run folder, choose another with -o"
            )
        if owner not in (None, source_sha256):
            raise RunFolderError(
                f"{path} belongs to another model ({self._manifest.get('source', 'unknown')}): choose another folder with -o"
            )
        self._manifest["source_sha256"] = source_sha256

    def describe(self, **facts: Any) -> None:
        """Record facts about the run (settings, versions, command line) in the manifest."""
        self._manifest.update(facts)
        self._write_manifest()

    def stage(self, name: str, key: str, files: tuple[str, ...], compute: Callable[[], None]) -> bool:
        """Make sure the `files` of stage `name` are there for inputs hashed to `key`.

        Args:
            name: Stage, as in the manifest.
            key: Digest of everything the stage depends on.
            files: What `compute` writes into the folder.
            compute: Does the work; called only if the files are absent, changed, or made from other inputs.

        Returns:
            Whether the work was done now.
        """
        if self._finished(name, key, files):
            return False
        started = time.monotonic()
        compute()
        self._manifest.setdefault("stages", {})[name] = {
            "key": key,
            "files": {file: sha256_of(self.path / file) for file in files if (self.path / file).exists()},
            "seconds": round(time.monotonic() - started, 3),
        }
        self._write_manifest()
        return True

    def seconds(self, name: str) -> float:
        """How long stage `name` took when it was done; 0 if it never was."""
        stage = self._manifest.get("stages", {}).get(name, {})
        return float(stage.get("seconds", 0.0))

    def _finished(self, name: str, key: str, files: tuple[str, ...]) -> bool:
        stage = self._manifest.get("stages", {}).get(name)
        if stage is None or stage["key"] != key:
            return False
        recorded: dict[str, str] = stage["files"]
        return set(recorded) <= set(files) and all(
            (self.path / file).is_file() and sha256_of(self.path / file) == digest for file, digest in recorded.items()
        )

    def _write_manifest(self) -> None:
        write_text(self.path / self.MANIFEST, json.dumps(self._manifest, indent=2, default=str) + "\n")

    @staticmethod
    def _make(path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(_cannot_write(path, error)) from error
        if not os.access(path, os.W_OK):
            raise RunFolderError(f"{path} is not writable: choose another folder with -o")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run folder; empty if there is none.

    Raises:
        RunFolderError: It is damaged.
    """
    path = folder / RunFolder.MANIFEST
    if not path.exists():
        return {}
    try:
        return TypeAdapter(dict[str, Any]).validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        raise RunFolderError(f"{path} is damaged: delete the folder or choose another with -o") from error


def _cannot_write(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"the disk is full, {path} was not written: free some space and run the same command again"
    return f"cannot write {path} ({error.strerror}): choose another folder with -o"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
