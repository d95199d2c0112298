"""The way from a module to a checked ONNX file, which appears whole or not at all.

An export for a run is done once: it is kept beside the file with what it was made from, and found again.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir
from pydantic import ValidationError

from trt_mpq import __version__
from trt_mpq.artifacts.files import TEMPORARY, cannot_write, from_json, key_of, to_json, to_stored_json, write_text
from trt_mpq.dataset.arrays import digest_arrays
from trt_mpq.errors import ModelError, RunFolderError, RuntimeFailure
from trt_mpq.export.axes import BATCH, dynamic_axes, resized, sizes_of
from trt_mpq.export.check import check_file, require_finite
from trt_mpq.export.graph import tidy
from trt_mpq.export.masks import soften_masks
from trt_mpq.export.sources import Loaded, load_source
from trt_mpq.export.values import DynamicAxis, ExportedModel, ExportOptions, OutputCheck
from trt_mpq.graph.interface import Interface
from trt_mpq.graph.opset import convert_opset, opset_of
from trt_mpq.model import model_digest, parameter_count, save_graph
from trt_mpq.runtime.base import Arrays
from trt_mpq.runtime.torch_export import TorchModule, quiet
from trt_mpq.types import Observer, SilentObserver

_DEFAULTS = ExportOptions()
_MODEL, _RECORD = "model.onnx", "export.json"
_TRACED = 2
"""Torch takes a dimension of size 0 or 1 for fixed, so free ones are traced with at least this many elements."""


def export_to_onnx(
    source: str, destination: Path, options: ExportOptions = _DEFAULTS, observer: Observer | None = None
) -> ExportedModel:
    """Export a torch module, compare the file with torch, and only then put it at `destination`.

    Above 1.5 GB of weights, a data file called `<destination>.data` is written beside it.

    Args:
        source: `module:factory`, which returns a torch.nn.Module or a pair of it and example inputs, or a folder with
            a Hugging Face model.
        destination: The ONNX file to write; its folder exists.
        options: How to export.
        observer: Told of the stages.

    Raises:
        ModelError: The module cannot be loaded or exported, or the file computes something else.
        DataError: The example inputs are missing or do not fit.
        SettingsError: An option names an axis that does not exist.
        RunFolderError: `destination` cannot be written.
        MissingDependencyError: torch or transformers is not installed.
    """
    return _export_loaded(source, load_source(source, options), destination, options, observer or SilentObserver())


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
    return export_loaded_once(source, load_source(source, options), folder, options, observer)


def export_loaded_once(
    source: str, loaded: Loaded, folder: Path, options: ExportOptions, observer: Observer
) -> ExportedModel:
    """The same for a module that is loaded already, which `source` calls."""
    record = folder / _RECORD
    key = key_of(
        __version__, source, to_json(options, ExportOptions), loaded.module.digest(),
        digest_arrays(loaded.feeds.items()),
    )  # fmt: skip
    kept = _kept(record, key)
    if kept is not None and _still_right(kept, loaded, folder / _MODEL, options):
        return replace(kept, path=str(folder / _MODEL))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(cannot_write(folder, error)) from error
    exported = _export_loaded(source, loaded, folder / _MODEL, options, observer)
    write_text(record, to_stored_json(_Kept(key, exported), _Kept))
    return exported


def exported_from(path: Path) -> str | None:
    """What `export_once` made the ONNX file `path` from, as the user called it; None for any other file."""
    kept = _read(path.parent / _RECORD) if path.name == _MODEL else None
    return None if kept is None else kept.exported.source


def _read(record: Path) -> _Kept | None:
    try:
        return from_json(record.read_bytes(), _Kept)
    except (FileNotFoundError, NotADirectoryError, ValidationError):  # absent, cut short, or of another version
        return None


def _kept(record: Path, key: str) -> ExportedModel | None:
    kept = _read(record)
    return kept.exported if kept and kept.key == key else None


def _still_right(kept: ExportedModel, loaded: Loaded, path: Path, options: ExportOptions) -> bool:
    feeds, axes = _traced_inputs(loaded, options)
    named = {
        (spec.name, number) for spec in kept.inputs for number, dim in enumerate(spec.shape) if isinstance(dim, str)
    }
    free = [axis for axis in axes if (axis.input, axis.axis) in named]
    try:
        if model_digest(path) != kept.sha256:
            return False
        check_file(path, loaded.module, feeds, free, options.tolerance)
    except (ModelError, RuntimeFailure):  # gone, damaged, or of other code
        return False
    return True


def _export_loaded(
    source: str, loaded: Loaded, destination: Path, options: ExportOptions, observer: Observer
) -> ExportedModel:
    """Export a module that is loaded already."""
    if not destination.parent.is_dir():
        raise RunFolderError(f"there is no folder {destination.parent}: create it or choose another file with -o")
    feeds, axes = _traced_inputs(loaded, options)
    reference = loaded.module.run(feeds)
    require_finite(reference, source)
    with observer.stage("Exporting to ONNX"):
        graph, free = _graph(loaded.module, feeds, tuple(reference), axes, options.opset)
    try:
        with tempfile.TemporaryDirectory(prefix=f"{TEMPORARY}{destination.name}.", dir=destination.parent) as folder:
            staged = Path(folder) / destination.name
            save_graph(graph, staged)
            with observer.stage("Comparing with torch"):
                checks = check_file(staged, loaded.module, feeds, free, options.tolerance)
            exported = _describe(graph, source, staged, destination, checks)
            for file in sorted(Path(folder).iterdir(), reverse=True):  # the data before the model that points to it
                file.replace(destination.parent / file.name)
    except OSError as error:
        raise RunFolderError(cannot_write(destination, error)) from error
    return exported


def _traced_inputs(loaded: Loaded, options: ExportOptions) -> tuple[Arrays, tuple[DynamicAxis, ...]]:
    """The example inputs at the sizes that are traced and compared, and their free axes."""
    feeds = loaded.feeds
    if options.fixed_batch is not None:
        rows = tuple(DynamicAxis(name, 0, BATCH) for name, value in feeds.items() if value.ndim)
        feeds = resized(feeds, rows, {BATCH: options.fixed_batch})
    given = {(axis.input, axis.axis): axis for axis in (*loaded.axes, *options.dynamic)}
    axes = dynamic_axes(feeds, tuple(given.values()), batch=options.fixed_batch is None)
    sizes = {symbol: max(size, _TRACED) for symbol, size in sizes_of(feeds, axes).items()}
    return resized(feeds, axes, sizes), axes


def _graph(
    module: TorchModule, feeds: Arrays, outputs: tuple[str, ...], axes: tuple[DynamicAxis, ...], opset: int
) -> tuple[ir.Model, tuple[DynamicAxis, ...]]:
    by_input: defaultdict[str, dict[int, bool]] = defaultdict(dict)
    for axis in axes:
        by_input[axis.input][axis.axis] = axis.required
    graph = module.to_onnx(feeds, outputs, by_input)
    with quiet():
        free = tidy(graph, axes)
        soften_masks(graph.graph)
    try:
        return convert_opset(graph, opset), free
    except ModelError as error:
        raise ModelError(f"{error} (choose another --opset; TensorRT 10 and 11 read newer ones)") from error


def _describe(
    graph: ir.Model, source: str, staged: Path, destination: Path, checks: tuple[OutputCheck, ...]
) -> ExportedModel:
    interface = Interface.of(graph)
    return ExportedModel(
        source=source,
        path=str(destination),
        sha256=model_digest(staged),
        opset=opset_of(graph),
        inputs=interface.inputs,
        outputs=interface.outputs,
        parameters=parameter_count(graph),
        checks=checks,
    )
