"""A run done again from its manifest: the same bytes, or what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_mpq.api.opening import open_run, require_trust
from trt_mpq.errors import RebuildDiffers, RunFolderError

if TYPE_CHECKING:
    from trt_mpq.artifacts.store import Manifest
    from trt_mpq.types import Observer

_ELSEWHERE = "engine/"
"""Engines are the builder's own bytes, which are not the same twice."""


@dataclass(frozen=True)
class Rebuilt:
    """A run that gave the same bytes again.

    Attributes:
        folder: Where it was done.
        files: Files that are the same byte for byte, in the order in which they were made.
    """

    folder: str
    files: tuple[str, ...]


def rebuild(manifest: Path, given: dict[str, Any], folder: Path, observer: Observer, *, trust: bool = False) -> Rebuilt:
    """Do the run again that `manifest` is of, in another `folder`, and compare every file that it wrote.

    Args:
        manifest: The `manifest.json` of a run that was delivered, or its folder.
        given: Settings in place of those that it names: where model and data lie on this machine.
        folder: Where to do it; the run itself is not touched.
        observer: Told what happens.
        trust: Whether to run code that the manifest names.

    Raises:
        RebuildDiffers: Model, data or a file have other bytes; it says which, the earliest first.
        RunFolderError: It is no manifest of a delivered run, or the folder is that of the run.
    """
    from trt_mpq.artifacts.store import MANIFEST, read_manifest
    from trt_mpq.settings import overridden

    recorded = manifest.parent if manifest.name == MANIFEST else manifest
    before = read_manifest(recorded)
    if before is None or "verification" not in before.stages:
        raise RunFolderError(f"{manifest} is of no run that was delivered: give the manifest.json of a finished build")
    if folder.resolve() == recorded.resolve():
        raise RunFolderError(f"{folder} holds the run that is to be done again: choose another folder with -o")
    require_trust(dict(before.settings), given, str(manifest), trust)
    run = open_run(
        overridden(dict(before.settings), {"engine": {"build": "never"}, **given}), str(manifest), folder, observer
    )
    run.emit()
    after = read_manifest(folder)
    assert after is not None, "a run that was delivered has a manifest"
    if differing := tuple(_differences(before, after)):
        raise RebuildDiffers(f"{folder} is not what {manifest} is of: {'; '.join(differing)}{_versions(before, after)}")
    return Rebuilt(str(folder), tuple(name for name, _, _ in _made_twice(before, after)))


def _differences(before: Manifest, after: Manifest) -> Iterator[str]:
    """What the run started from, or else the first file that is other: all that follows is so because of it."""
    started = {"model": (before.source_sha256, after.source_sha256)}
    started |= {name: (digest, after.data.get(name, "")) for name, digest in before.data.items()}
    inputs = [
        f"the {name} data is another" if name != "model" else "the model is another"
        for name, (one, other) in started.items()
        if one != other
    ]
    yield from inputs
    changed = [name for name, one, other in _made_twice(before, after) if one != other]
    if changed and not inputs:
        others = f", and {len(changed) - 1} that follow from it" if len(changed) > 1 else ""
        yield f"{changed[0]} differs{others}"


def _made_twice(before: Manifest, after: Manifest) -> Iterator[tuple[str, str | None, str | None]]:
    """Every file of the stages that both went through and its digest in each, in the order in which they were made."""
    for stage, record in before.stages.items():
        again = after.stages.get(stage)
        if again is not None and not stage.startswith(_ELSEWHERE):
            for name in dict.fromkeys((*record.files, *again.files)):
                yield name, record.files.get(name), again.files.get(name)


def _versions(before: Manifest, after: Manifest) -> str:
    """What was installed otherwise, as the end of a sentence; empty if nothing was."""
    changed = _changed(before.environment, after.environment)
    return f" (made with {', '.join(changed)})" if changed else ""


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return [f"{name} {own}, here {after.get(name, 'absent')}" for name, own in before.items() if after.get(name) != own]
