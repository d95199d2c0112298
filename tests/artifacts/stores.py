"""Stages whose work is counted, and stores that keep what they make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trt_mpq.artifacts.stage import Job, Stage, json_kind
from trt_mpq.artifacts.store import Store
from trt_mpq.settings import Settings
from trt_mpq.types.observer import SilentObserver

SETTINGS = Settings(model=Path("m.onnx"))


class Crash(BaseException):
    """What a kill looks like from the inside."""


class Counting:
    """Makes stages whose work is counted."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, name: str, make: Callable[[Job], Any], kind: Any = int, **more: Any) -> Stage[Any]:
        def counted(job: Job) -> Any:
            self.made.append(name)
            return make(job)

        return Stage(name, counted, json_kind(kind) if kind else None, **more)


def source(digest: str = "abc") -> Stage[str]:
    return Stage("source", lambda job: "m", digest=lambda value: digest)


def opened(folder: Path, settings: Settings = SETTINGS, digest: str = "abc", **more: Any) -> Store:
    return Store(folder, settings, more.pop("observer", SilentObserver()), source=source(digest), **more)


def changed(**settings: Any) -> Settings:
    return SETTINGS.model_copy(update=settings)


def chain(stage: Counting) -> tuple[Stage[int], Stage[bool], Stage[str]]:
    """A number from a setting, whether it is even, a word from that."""
    number = stage("number", lambda job: job.settings.batch, reads=("batch",))
    even = stage("even", lambda job: job[number] % 2 == 0, bool, needs=(number,))
    word = stage("word", lambda job: "even" if job[even] else "odd", str, needs=(even,))
    return number, even, word
