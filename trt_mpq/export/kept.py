"""An export that is done once: kept beside the file with what it was made from, and found again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from trt_mpq import __version__
from trt_mpq.artifacts.files import cannot_write, from_json, key_of, to_json, to_stored_json, write_text
from trt_mpq.dataset.arrays import digest_arrays
from trt_mpq.errors import ModelError, RunFolderError, RuntimeFailure
from trt_mpq.export.check import check_file
from trt_mpq.export.exporter import export_loaded, traced_inputs
from trt_mpq.export.sources import Loaded, load_source
from trt_mpq.export.values import ExportedModel, ExportOptions
from trt_mpq.model import model_digest
from trt_mpq.types.observer import Observer

MODEL = "model.onnx"
RECORD = "export.json"


@dataclass(frozen=True)
class _Kept:
    """A finished export and the digest of what it was made from."""

    key: str
    exported: ExportedModel


def export_once(source: str, folder: Path, options: ExportOptions, observer: Observer) -> ExportedModel:
    """Export to `folder`, unless it holds the export of the same module already.

    It does if options, weights and example inputs have not changed and the file still computes what the module does,
    which covers the module's code.

    Args:
        source: As in `export_to_onnx`.
        folder: Where the file goes; created if absent.
        options: How to export.
        observer: Told of the stages that do work.

    Raises:
        TrtMpqError: As `export_to_onnx`.
    """
    loaded = load_source(source, options)
    record = folder / RECORD
    key = key_of(
        __version__, source, to_json(options, ExportOptions), loaded.module.digest(),
        digest_arrays(loaded.feeds.items()),
    )  # fmt: skip
    kept = _kept(record, key)
    if kept is not None and _still_right(kept, loaded, folder / MODEL, options):
        return replace(kept, path=str(folder / MODEL))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(cannot_write(folder, error)) from error
    exported = export_loaded(source, loaded, folder / MODEL, options, observer)
    write_text(record, to_stored_json(_Kept(key, exported), _Kept))
    return exported


def _kept(record: Path, key: str) -> ExportedModel | None:
    try:
        kept = from_json(record.read_bytes(), _Kept)
    except (FileNotFoundError, NotADirectoryError, ValidationError):  # absent, cut short, or of another version
        return None
    return kept.exported if kept.key == key else None


def _still_right(kept: ExportedModel, loaded: Loaded, path: Path, options: ExportOptions) -> bool:
    feeds, axes = traced_inputs(loaded, options)
    named = {
        (spec.name, number) for spec in kept.inputs for number, dim in enumerate(spec.shape) if isinstance(dim, str)
    }
    free = [axis for axis in axes if (axis.input, axis.axis) in named]
    try:
        if model_digest(path) != kept.sha256:
            return False
        check_file(path, loaded.module, feeds, free, options.atol)
    except (ModelError, RuntimeFailure):  # gone, damaged, or of other code
        return False
    return True
