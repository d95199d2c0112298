"""Stages that are done once: work that ends in files of the run folder, watched by an observer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from trt_mpq.artifacts.storage import RunFolder, from_json, to_stored_json, write_text
from trt_mpq.types.observer import Observer, Progress

T = TypeVar("T")


class Stages:
    """Does the stages of one run, or reads back what they wrote.

    Args:
        folder: Where their files are.
        observer: Told of stages that do work and have a title.
    """

    def __init__(self, folder: RunFolder, observer: Observer) -> None:
        self._folder, self._observer = folder, observer

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self._folder.path

    def path(self, name: str) -> Path:
        """The file called `name` in the run folder."""
        return self._folder.path / name

    def value(
        self,
        name: str,
        key: str,
        file: str,
        kind: type[T],
        compute: Callable[[Progress], T],
        others: tuple[str, ...] = (),
        title: str | None = None,
    ) -> T:
        """The value of stage `name`, which is kept as JSON in `file`.

        Args:
            name: Stage, as in the manifest.
            key: Digest of everything the value depends on.
            file: Name of the JSON file.
            kind: Type of the value.
            compute: Makes the value; called only if there is none for `key`.
            others: Further files that `compute` may write.
            title: What an observer is told; None for stages that take no time.
        """

        def work(progress: Progress) -> None:
            write_text(self.path(file), to_stored_json(compute(progress), kind))

        self.files(name, key, (file, *others), work, title)
        return from_json(self.path(file).read_bytes(), kind)

    def files(
        self, name: str, key: str, files: tuple[str, ...], work: Callable[[Progress], None], title: str | None = None
    ) -> None:
        """Make sure the `files` of stage `name` are there for `key`; `work` writes them."""

        def compute() -> None:
            if title is None:
                work(lambda done, total: None)
                return
            with self._observer.stage(title) as progress:
                work(progress)

        self._folder.stage(name, key, files, compute)
