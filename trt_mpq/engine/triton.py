"""A Triton Inference Server model repository from an engine: ``<repository>/<name>/config.pbtxt`` and ``1/model.plan``.

An export that fails leaves nothing behind, since Triton would guess a configuration for an engine without one.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trt_mpq.artifacts.files import atomic_path, cannot_write, sha256_of, write_text
from trt_mpq.engine.manifest import BUILD_ANEW, FILE_NAME, EngineManifest, require_digest, write_manifest
from trt_mpq.engine.triton_config import Serving, model_config
from trt_mpq.errors import RunFolderError, SettingsError
from trt_mpq.types import TensorSpec


def export_triton(
    engine: Path,
    manifest: EngineManifest,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    repository: Path,
    name: str,
    *,
    version: int = 1,
    serving: Serving | None = None,
) -> Path:
    """Put the engine into a model repository as a version of model `name`, whole or not at all.

    A model that is there already gets another version if that is all in which it differs.

    Args:
        engine: The engine file.
        manifest: What it is; a copy stays beside the engine.
        inputs: Inputs of the model it was built from.
        outputs: Its outputs.
        repository: Folder of the repository; created if absent.
        name: Name of the model in Triton.
        version: Which version of it this is.
        serving: How Triton serves it.

    Returns:
        The model's folder.

    Raises:
        RunFolderError: There is no engine, it is not the manifest's, or the repository cannot be written.
        SettingsError: The name is no folder name, or the version is taken, or the model there is another.
        ModelError: A tensor has a type that Triton does not know.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
        raise SettingsError(f"{name!r} is no name for a Triton model: use letters, digits, dots, dashes, underscores")
    if not engine.is_file():
        raise RunFolderError(f"there is no engine {engine}, and Triton is given nothing else: {BUILD_ANEW}")
    target = repository / name
    text = model_config(manifest, inputs, outputs, name, serving)
    if target.exists():
        _require_same(target, text, version)
        with _new_folder(target / str(version)) as draft:
            _write_engine(draft, engine, manifest)
        return target
    with _new_folder(target) as draft:
        (draft / str(version)).mkdir()
        _write_engine(draft / str(version), engine, manifest)
        write_text(draft / "config.pbtxt", text)
    return target


def _require_same(model: Path, text: str, version: int) -> None:
    """Raise SettingsError unless `model` is one to which only this version is new."""
    if (model / str(version)).exists():
        raise SettingsError(f"{model} has a version {version}: choose another with --version, or another --name")
    config = model / "config.pbtxt"
    if not config.is_file() or _without_comments(config.read_text(encoding="utf-8")) != _without_comments(text):
        raise SettingsError(
            f"{model} is served otherwise than this version would be, see its config.pbtxt: choose another --name, "
            "or give the same options"
        )


def _without_comments(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


def _write_engine(folder: Path, engine: Path, manifest: EngineManifest) -> None:
    with atomic_path(folder / "model.plan") as copy:
        shutil.copyfile(engine, copy)
        require_digest(manifest, engine, sha256_of(copy))
    write_manifest(folder / FILE_NAME, manifest)


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """A folder that becomes `target` when the block ends well, and vanishes otherwise."""
    draft = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        yield draft
        draft.rename(target)
    except OSError as error:
        raise RunFolderError(cannot_write(target, error)) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
