"""A stage: one value of a run, how it is made, and everything that it may depend on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from trt_mpq.artifacts.files import from_json, key_of, to_stored_json, write_text

if TYPE_CHECKING:
    from trt_mpq.settings import Settings
    from trt_mpq.types import Observer, Progress

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class StageError(Exception):
    """A stage reads what it does not declare, or goes by the name of another: a defect of this program."""


@dataclass(frozen=True)
class Kind(Generic[T_co]):
    """How a value lies on disk: `write` gives a file with `suffix` as a whole, `read` the value that it holds."""

    suffix: str
    write: Callable[[Any, Path], None]
    read: Callable[[Path], T_co]


def json_kind(type_: type[T]) -> Kind[T]:
    """A value of a type that pydantic knows, as JSON in which NaN and infinity survive."""
    return Kind(
        ".json",
        lambda value, path: write_text(path, to_stored_json(value, type_)),
        lambda path: from_json(path.read_bytes(), type_),
    )


def content_digest(type_: Any) -> Callable[[Any], str]:
    """For a stage in memory: the digest of its value as JSON, so that an equal value redoes nothing."""
    return lambda value: key_of(to_stored_json(value, type_))


class Job(Protocol):
    """What `Stage.make` is given: the declared stages and settings, and nothing else."""

    @property
    def settings(self) -> Settings:
        """The settings, of which those that are not declared cannot be read."""

    @property
    def key(self) -> str:
        """Digest of everything that the value depends on."""

    @property
    def observer(self) -> Observer:
        """Told what happens."""

    @property
    def progress(self) -> Progress:
        """Told how far the stage is, if it has a title."""

    def __getitem__(self, stage: Stage[T]) -> T:
        """The value of a declared stage."""

    def path(self, name: str) -> Path:
        """A file of the run folder that this stage or one that it declares writes, see `Stage.readable`."""

    @property
    def folder(self) -> Path:
        """The run folder, for values that name files themselves and hold the digests of their content."""


@dataclass(frozen=True, eq=False)
class Stage(Generic[T_co]):
    """One value of a run.

    Attributes:
        name: A kept value lies in the file of this name and of its kind's suffix, and no two in one.
        make: Makes the value from its job.
        kind: How the value is kept; None keeps it in memory, and every process makes its own.
        needs: Stages whose values it depends on. They are made before it.
        reads: Settings that it depends on; "engine.typing" is a part of one.
        constants: What else it was defined with and its name does not say, as JSON values.
        uses: Stages and settings that it may ask for and that redo nothing, for one of four reasons: they decide only
            how fast the value is made, or what is said if none is, or the value has a digest of its own, or `holds`
            looks at them. Stages among them are made when they are asked for.
        files: Further files that `make` writes; it may leave some out.
        title: What an observer is told while it is made; None for stages that take no time.
        digest: For values in memory: tells one from another. By default all that the stage depends on does.
        holds: Whether a value that was kept for the same inputs may still be taken.
        identity: What tells it from stages that are declared otherwise.
    """

    name: str
    make: Callable[[Job], T_co]
    kind: Kind[T_co] | None = None
    needs: tuple[Stage[Any], ...] = ()
    reads: tuple[str, ...] = ()
    constants: tuple[Any, ...] = ()
    uses: tuple[Stage[Any] | str, ...] = ()
    files: tuple[str, ...] = ()
    title: str | None = None
    digest: Callable[[Any], str] | None = None
    holds: Callable[[Any, Job], bool] = lambda value, job: True
    identity: str = field(init=False)

    def __post_init__(self) -> None:
        """Digest what was declared, so that the same stage may be defined again and again."""
        needed, used = (
            [one if isinstance(one, str) else one.identity for one in own] for own in (self.needs, self.uses)
        )
        declared = key_of(self.name, needed, self.reads, self.constants, used, self.files)
        object.__setattr__(self, "identity", declared)

    @property
    def written(self) -> tuple[str, ...]:
        """Every file that it writes, that of its value first."""
        return (*([self.name + self.kind.suffix] if self.kind else []), *self.files)

    def readable(self) -> frozenset[str]:
        """Files that its job may read or write: its own, and those of stages that count in its key by their content.

        A declared stage in memory without a digest of its own counts by what it depends on, and so do its files.
        """
        declared = (*self.needs, *(used for used in self.uses if isinstance(used, Stage)))
        passed = [one.readable() if one.kind is None and one.digest is None else one.written for one in declared]
        return frozenset(self.written).union(*passed)
