"""The store of a run: makes every stage once, keeps it in the run folder, and reads it back.

A stage is read back if its key is that of the run that made it: the version of this program, the settings that the
stage declares, and the content of what it needs. So a stage whose inputs come out the same is not done again, and that
is all there is to resuming an interrupted run.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import ValidationError

from trt_mpq import __version__
from trt_mpq.artifacts.files import atomic_path, from_json, key_of, sha256_of, to_json, write_text
from trt_mpq.artifacts.folder import claim, make_folder, sweep
from trt_mpq.artifacts.lock import FolderLock, hold
from trt_mpq.artifacts.stage import Job, Stage, StageError
from trt_mpq.errors import RunFolderError

if TYPE_CHECKING:
    from trt_mpq.settings import Settings
    from trt_mpq.types import Observer, Progress

T = TypeVar("T")

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class StageRecord:
    """A finished stage: its key, its files with their digests, and how long it took."""

    key: str
    files: Mapping[str, str]
    seconds: float


@dataclass(frozen=True)
class Manifest:
    """What a run folder is about (`source`, a model file), how it was last worked on, and its finished stages.

    `data` has the digest of the content of every set of data that the delivered plan rests on, by the setting it is
    given as; empty until one is delivered.
    """

    source_sha256: str
    source: str = "unknown"
    data: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    seed: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    stages: Mapping[str, StageRecord] = field(default_factory=dict)


class Store:
    """The values of one run.

    Args:
        folder: The run folder; created if absent.
        settings: What stages read their settings from.
        observer: Told of stages that do work and have a title.
        source: What the run is about: a folder that is about another one is refused. None takes any.
        writable: Whether stages may be made; a worker only reads those that are.
        locked: Whether to hold the folder against other processes; not where whoever leads the run does.
        given: Names of stages to take as they lie in the folder, whatever they were made from, to the command that
            makes them.
        lenders: Other run folders; what was made there for the same inputs is copied from them, not made again.

    Raises:
        RunFolderError: The folder cannot be created or written, its manifest is damaged, it is about another source, or
            another process works on it.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        observer: Observer,
        *,
        source: Stage[Any] | None = None,
        writable: bool = True,
        locked: bool = True,
        given: Mapping[str, str] | None = None,
        lenders: Sequence[Path] = (),
    ) -> None:
        self.folder, self.settings, self.observer = folder, settings, observer
        self._writable, self._given, self._lenders = writable, given or {}, lenders
        self._named: dict[str, str] = {}
        self._values: dict[str, Any] = {}
        self._keys: dict[str, str] = {}
        self._digests: dict[str, str] = {}
        self._lock: FolderLock | None = None
        self._manifest = self._opened("" if source is None else self.digest(source), writable and locked)

    def __getitem__(self, stage: Stage[T]) -> T:
        """The value of `stage`, made now if it never was for these inputs.

        Raises:
            RunFolderError: A file cannot be written, or this store may not make the stage.
            Exception: Whatever making it raises.
        """
        self._require_name(stage)
        if stage.identity not in self._values:
            self._values[stage.identity] = self._kept(stage) if stage.kind else self._made(stage)
        return cast("T", self._values[stage.identity])

    def ensure(self, stage: Stage[Any]) -> None:
        """Make `stage` now if it never was: for what has to fail before anything else is done."""
        self[stage]

    def kept(self, stage: Stage[T]) -> T | None:
        """The value of `stage` if it was made for these inputs before; None if it would have to be made now."""
        return stage.kind.read(self._path(stage)) if stage.kind and self._finished(stage) else None

    def key(self, stage: Stage[Any]) -> str:
        """Digest of everything that `stage` depends on; what it needs is made for it."""
        if stage.identity not in self._keys:
            settings = [attrgetter(name)(self.settings) for name in stage.reads]
            needed = [self.digest(need) for need in stage.needs]
            self._keys[stage.identity] = key_of(__version__, stage.name, stage.constants, settings, needed)
        return self._keys[stage.identity]

    def digest(self, stage: Stage[Any]) -> str:
        """Digest of the value of `stage`; one that is kept is made for it."""
        if stage.identity not in self._digests:
            self._digests[stage.identity] = self._digest(stage)
        return self._digests[stage.identity]

    def seconds(self, stage: Stage[Any]) -> float:
        """How long `stage` took when it was made; 0 if it never was."""
        record = self._manifest.stages.get(stage.name)
        return 0.0 if record is None else record.seconds

    def describe(self, *, source: str, command: str, environment: Mapping[str, str]) -> None:
        """Record in the manifest how the run is worked on now."""
        settings = self.settings.anchored().model_dump(mode="json")
        seed = self.settings.seed
        self._record(source=source, settings=settings, command=command, seed=seed, environment=environment)

    def release(self) -> None:
        """Let other processes work on the folder, which this store does no more."""
        self._lock = None

    def describe_data(self, digests: Mapping[str, str]) -> None:
        """Record in the manifest what data the delivered plan rests on."""
        if self._manifest.data != digests:
            self._record(data=digests)

    def reread(self) -> None:
        """Learn what another process made in the folder on behalf of this one."""
        self._manifest = read_manifest(self.folder) or self._manifest

    def _digest(self, stage: Stage[Any]) -> str:
        if stage.kind is None:
            return self.key(stage) if stage.digest is None else stage.digest(self[stage])
        self.ensure(stage)
        written = self._digests_of(stage) if stage.name in self._given else self._manifest.stages[stage.name].files
        return key_of([written.get(name) for name in stage.written])  # a file's name is not its content

    def _kept(self, stage: Stage[T]) -> T:
        assert stage.kind is not None
        path = self._path(stage)
        if stage.name in self._given:
            return read_given(stage, self.folder, self._given[stage.name])
        there = self._finished(stage) or self._borrowed(stage)
        if not there or not stage.holds(stage.kind.read(path), self._job(stage)):
            self._write(stage, path)
        return stage.kind.read(path)

    def _write(self, stage: Stage[T], path: Path) -> None:
        if not self._writable:
            raise RunFolderError(
                f"a worker does not find stage {stage.name!r} in {self.folder}: every worker must see the same files "
                "as the process that leads the run, at the same paths"
            )
        assert stage.kind is not None
        key = self.key(stage)
        make_folder(path.parent)
        for need in stage.needs:
            self.ensure(need)
        before, started = self._stamps_of(stage), time.monotonic()
        if stage.title is None:
            stage.kind.write(stage.make(self._job(stage)), path)
        else:
            with self.observer.stage(stage.title) as progress:
                stage.kind.write(stage.make(self._job(stage, progress)), path)
        for name, stamp in self._stamps_of(stage).items():
            if stamp == before.get(name):  # this time it was left out
                (self.folder / name).unlink()
        record = StageRecord(key, self._digests_of(stage), round(time.monotonic() - started, 3))
        self._record(stages={**self._manifest.stages, stage.name: record})

    def _made(self, stage: Stage[T]) -> T:
        for need in stage.needs:
            self.ensure(need)
        return stage.make(self._job(stage))

    def _job(self, stage: Stage[Any], progress: Progress = lambda done, total: None) -> Job:
        return _Job(self, stage, self.observer, progress)

    def _digests_of(self, stage: Stage[Any]) -> dict[str, str]:
        """The files of the stage that there are, with their digests."""
        return {name: sha256_of(file) for name in stage.written if (file := self.folder / name).exists()}

    def _stamps_of(self, stage: Stage[Any]) -> dict[str, tuple[int, int]]:
        """The files of the stage that there are, each with what changes when it is written."""
        found = {name: (self.folder / name).stat() for name in stage.written if (self.folder / name).exists()}
        return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in found.items()}

    def _require_name(self, stage: Stage[Any]) -> None:
        """Raise StageError if another stage is kept under the name of this one."""
        if stage.kind and self._named.setdefault(stage.name, stage.identity) != stage.identity:
            raise StageError(f"two stages of a run are kept as {stage.name!r}")

    def _path(self, stage: Stage[Any]) -> Path:
        return self.folder / stage.written[0]

    def _finished(self, stage: Stage[Any]) -> bool:
        """Whether the stage was made for these inputs, and its files are as they were written."""
        return self._record_in(self.folder, self._manifest, stage) is not None

    def _record_in(self, folder: Path, manifest: Manifest | None, stage: Stage[Any]) -> StageRecord | None:
        """The record of a run `folder` in which the stage was made for these inputs and its files lie whole."""
        record = manifest.stages.get(stage.name) if manifest else None
        if record is None or record.key != self.key(stage) or not set(record.files) <= set(stage.written):
            return None
        files = ((folder / name, digest) for name, digest in record.files.items())
        return record if all(path.is_file() and sha256_of(path) == digest for path, digest in files) else None

    def _borrowed(self, stage: Stage[Any]) -> bool:
        """Whether a lender made the stage for these inputs; its files are copied, and no other of the stage stays."""
        if not self._writable:
            return False
        found = ((folder, self._record_in(folder, read_manifest(folder), stage)) for folder in self._lenders)
        lender, record = next(((folder, record) for folder, record in found if record), (self.folder, None))
        if record is None:
            return False
        for name in stage.written:
            if name not in record.files:
                (self.folder / name).unlink(missing_ok=True)
                continue
            make_folder((self.folder / name).parent)
            with atomic_path(self.folder / name) as temporary:
                shutil.copyfile(lender / name, temporary)
        self._record(stages={**self._manifest.stages, stage.name: record})
        return True

    def _opened(self, source_sha256: str, locked: bool) -> Manifest:
        found = (opened_folder if self._writable else checked_manifest)(self.folder, source_sha256)
        if locked:
            self._lock = lock = hold(self.folder)
            if lock.excludes:
                sweep(self.folder)
            else:
                self.observer.note(
                    f"{self.folder} is on a file system without locks: let one command work on it at a time"
                )
            found = read_manifest(self.folder)  # whoever had the folder may have written until then
        return found or Manifest(source_sha256)

    def _record(self, **changes: Any) -> None:
        self._manifest = replace(self._manifest, **changes)
        write_text(self.folder / MANIFEST, to_json(self._manifest, Manifest))


class _Job:
    """The one implementation of `Job`."""

    def __init__(self, store: Store, stage: Stage[Any], observer: Observer, progress: Progress) -> None:
        self._store, self._stage, self.observer, self.progress = store, stage, observer, progress
        names = [*stage.reads, *(name for name in stage.uses if isinstance(name, str))]
        self.settings = cast("Settings", _Declared(store.settings, names, stage.name))
        self.folder = store.folder

    @property
    def key(self) -> str:
        return self._store.key(self._stage)

    def __getitem__(self, stage: Stage[T]) -> T:
        declared = (*self._stage.needs, *self._stage.uses)
        if stage.identity not in [other.identity for other in declared if isinstance(other, Stage)]:
            raise StageError(f"stage {self._stage.name!r} asks for {stage.name!r}, which it does not declare")
        return self._store[stage]

    def path(self, name: str) -> Path:
        if name not in self._stage.readable():
            raise StageError(f"no stage that {self._stage.name!r} declares writes {name}")
        return self._store.folder / name


class _Declared:
    """Settings, or a part of them, of which only what a stage declares can be read."""

    def __init__(self, settings: Any, names: Sequence[str], stage: str) -> None:
        self._settings, self._names, self._stage = settings, names, stage

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._settings, name)
        if name in self._names:
            return value
        parts = [own.removeprefix(f"{name}.") for own in self._names if own.startswith(f"{name}.")]
        if not parts:
            raise StageError(f"stage {self._stage!r} reads the setting {name!r}, which it does not declare")
        return _Declared(value, parts, self._stage)


def opened_folder(folder: Path, source_sha256: str = "") -> Manifest | None:
    """Make `folder` a run folder if it is none; the manifest that it holds, or None.

    Args:
        folder: The run folder.
        source_sha256: What it has to be about; empty for anything.

    Raises:
        RunFolderError: It cannot be one, its manifest is damaged, or it is about another source.
    """
    found = checked_manifest(folder, source_sha256)
    claim(folder, known=found is not None)
    return found


def checked_manifest(folder: Path, source_sha256: str) -> Manifest | None:
    """The manifest of a run folder, or None; raises RunFolderError if it is damaged or about another source."""
    found = read_manifest(folder)
    if found is not None and source_sha256 and found.source_sha256 != source_sha256:
        raise RunFolderError(f"{folder} belongs to another model ({found.source}): choose another folder with -o")
    return found


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a run folder, or None if there is none.

    Raises:
        RunFolderError: It is damaged or cannot be read.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        return from_json(path.read_bytes(), Manifest)
    except ValidationError as error:
        raise RunFolderError(f"{path} is damaged, or no run's: choose another folder with -o") from error
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read ({error.strerror}): choose another folder with -o") from error


def read_given(stage: Stage[T], folder: Path, command: str) -> T:
    """The value of a kept stage as it lies in a run folder, whatever it was made from.

    Args:
        stage: The stage.
        folder: The run folder.
        command: What makes it, for the error.

    Raises:
        RunFolderError: It is not there, or damaged.
    """
    assert stage.kind is not None
    path, remedy = folder / stage.written[0], f"run `trt-mpq {command} {folder}` first"
    if not path.is_file():
        raise RunFolderError(f"{path} is missing: {remedy}")
    try:
        return stage.kind.read(path)
    except ValidationError as error:
        raise RunFolderError(f"{path} is damaged or from another version: {remedy}") from error


def settings_of_run(folder: Path) -> dict[str, Any]:
    """The settings a run folder was last worked on with.

    Raises:
        RunFolderError: It is no run folder.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise RunFolderError(f"{folder} is no run folder: make one with `trt-mpq inspect MODEL -o {folder}`")
    return dict(manifest.settings)
