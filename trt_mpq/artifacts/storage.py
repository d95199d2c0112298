"""Files that are whole or absent, and the run folder that lets an interrupted run go on."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from trt_mpq.artifacts.locking import hold
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
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
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


@dataclass(frozen=True)
class StageRecord:
    """A finished stage: the digest of its inputs, its files with their digests, and how long it took."""

    key: str
    files: Mapping[str, str]
    seconds: float


@dataclass(frozen=True)
class Manifest:
    """What a run folder is about (`source`, a model file), how it was last worked on, and its finished stages."""

    source_sha256: str
    source: str = "unknown"
    settings: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    seed: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    stages: Mapping[str, StageRecord] = field(default_factory=dict)


class RunFolder:
    """A folder with one file per finished stage and a manifest that says from which inputs each was made.

    Args:
        path: The folder; created if absent.
        source_sha256: Digest of the model file this run is about.
        writable: Whether stages may be done; a worker only reads those that are.

    Raises:
        RunFolderError: It cannot be created or written, its manifest is damaged, it is another model's, or another
            process works on it.
    """

    MANIFEST = "manifest.json"

    def __init__(self, path: Path, source_sha256: str, *, writable: bool = True) -> None:
        self.path, self._writable = path, writable
        if writable:
            self._make(path)
        found = read_manifest(path)
        if found is None and any(path.glob("*.onnx")):
            raise RunFolderError(
                f"{path} holds ONNX files but no {self.MANIFEST}: it is no run folder, choose another with -o"
            )
        if found is not None and found.source_sha256 != source_sha256:
            raise RunFolderError(f"{path} belongs to another model ({found.source}): choose another folder with -o")
        if writable:
            self._lock = hold(path)
            found = read_manifest(path)  # whoever had the folder may have written until then
        self._manifest = found or Manifest(source_sha256)

    def describe(
        self, *, source: str, settings: Mapping[str, Any], command: str, seed: int, environment: Mapping[str, str]
    ) -> None:
        """Record in the manifest how the run is worked on now, if the folder is writable."""
        if self._writable:
            self._update(source=source, settings=settings, command=command, seed=seed, environment=environment)

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
        if not self._writable:
            raise RunFolderError(
                f"a worker does not find stage {name!r} in {self.path}: every worker must see the same files as the "
                "process that leads the run, at the same paths"
            )
        started = time.monotonic()
        compute()
        written = {file: sha256_of(self.path / file) for file in files if (self.path / file).exists()}
        record = StageRecord(key, written, round(time.monotonic() - started, 3))
        self._update(stages={**self._manifest.stages, name: record})
        return True

    def seconds(self, name: str) -> float:
        """How long stage `name` took when it was done; 0 if it never was."""
        record = self._manifest.stages.get(name)
        return 0.0 if record is None else record.seconds

    def _finished(self, name: str, key: str, files: tuple[str, ...]) -> bool:
        record = self._manifest.stages.get(name)
        if record is None or record.key != key:
            return False
        return set(record.files) <= set(files) and all(
            (self.path / file).is_file() and sha256_of(self.path / file) == digest
            for file, digest in record.files.items()
        )

    def _update(self, **changes: Any) -> None:
        self._manifest = replace(self._manifest, **changes)
        write_text(self.path / self.MANIFEST, to_json(self._manifest, Manifest))

    @staticmethod
    def _make(path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(cannot_write(path, error)) from error
        if not os.access(path, os.W_OK):
            raise RunFolderError(f"{path} is not writable: choose another folder with -o")


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a run folder, or None if there is none.

    Raises:
        RunFolderError: It is damaged or cannot be read.
    """
    path = folder / RunFolder.MANIFEST
    if not path.exists():
        return None
    try:
        return from_json(path.read_bytes(), Manifest)
    except ValidationError as error:
        raise RunFolderError(f"{path} is damaged: delete the folder or choose another with -o") from error
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read ({error.strerror}): choose another folder with -o") from error


def settings_of_run(folder: Path) -> dict[str, Any]:
    """The settings a run folder was last worked on with.

    Raises:
        RunFolderError: It is no run folder.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise RunFolderError(f"{folder} is no run folder: make one with `trt-mpq inspect MODEL -o {folder}`")
    return dict(manifest.settings)


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
