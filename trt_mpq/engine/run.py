"""A shipped engine at work: on samples, or handed on to Triton Inference Server.

An engine is code. It is loaded only if its manifest is there and says that it was built for this machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from trt_mpq.artifacts.files import write_arrays
from trt_mpq.dataset.chunks import chunks
from trt_mpq.dataset.pixels import Pixels
from trt_mpq.dataset.sequences import open_data
from trt_mpq.engine.handover import read_network
from trt_mpq.engine.manifest import BUILD_ANEW, FILE_NAME, EngineManifest, admit, read_manifest
from trt_mpq.engine.shipping import ENGINE_FILE, ENGINE_FOLDER
from trt_mpq.engine.timing import loaded_engine
from trt_mpq.engine.triton import export_triton
from trt_mpq.engine.triton_config import Serving
from trt_mpq.errors import RunFolderError, SettingsError
from trt_mpq.runtime.base import Array
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Observer, TensorSpec


@dataclass(frozen=True)
class OutputArray:
    """One output for all samples, as it was written."""

    name: str
    dtype: str
    shape: tuple[int, ...]


def run_engine(
    path: Path,
    source: str,
    output: Path,
    observer: Observer,
    *,
    plugins: Sequence[Path] = (),
    key: Path | None = None,
    trust: bool = False,
    pixels: Pixels | None = None,
) -> tuple[OutputArray, ...]:
    """Run the engine on all samples of `source` and write its outputs as `.npz`.

    Args:
        path: The engine, its folder, or a run folder.
        source: Samples, as `open_samples` takes them.
        output: The `.npz` to write.
        observer: Told what happens.
        plugins: Plugin libraries to load in place of those that the manifest names.
        key: PEM file of the public key with which the manifest must be signed.
        trust: Whether plugin libraries that an unsigned manifest names are loaded.
        pixels: How the images of a folder become the input.

    Raises:
        RunFolderError: There is no engine, its manifest is missing or not signed as it must be, or it does not belong
            to this machine.
        SettingsError: The manifest names plugin libraries that nobody vouches for, or `key` holds no key.
        DataError: The samples do not fit.
        RuntimeFailure: The engine does not run.
    """
    from trt_mpq.runtime.tensorrt.platform import this_platform

    engine = located_engine(path)
    manifest = read_manifest(engine.with_name(FILE_NAME), key)
    options = _options(manifest, engine)
    if plugins:
        options = options.model_copy(update={"plugins": tuple(plugins)})
    elif options.plugins and key is None and not trust:
        raise SettingsError(
            f"the manifest of {engine} names the plugin library {', '.join(map(str, options.plugins))}, which would be "
            "run as code here: name it with --plugins, or pass --verify with its maker's public key, or --trust"
        )
    flavour = manifest.platform.flavour
    admitted = admit(engine, manifest, this_platform(flavour))
    for warning in admitted.warnings:
        observer.note(warning)
    collected: dict[str, list[Array]] = {}
    with loaded_engine(engine, options, flavour, admitted.content) as loaded, loaded.session() as session:
        inputs, given = _with_rows(loaded.inputs, manifest), _with_rows(loaded.outputs, manifest)
        samples = open_data(source, tuple(map(_as_fed, inputs)), given, manifest.states, pixels)
        with observer.stage("Running the engine") as progress:
            for chunk in chunks(samples, manifest.batch):
                for name, value in chunk.run(session).items():
                    collected.setdefault(name, []).append(value)
                progress(chunk.end, samples.count)
    outputs = {name: np.concatenate(parts) for name, parts in collected.items()}
    write_arrays(outputs, output)
    return tuple(OutputArray(name, str(value.dtype), value.shape) for name, value in outputs.items())


def _options(manifest: EngineManifest, engine: Path) -> EngineOptions:
    try:
        return EngineOptions(**manifest.options)
    except ValidationError as error:
        raise RunFolderError(
            f"the manifest of {engine} has options of another version of trt-mpq: {BUILD_ANEW}"
        ) from error


def _with_rows(specs: Sequence[TensorSpec], manifest: EngineManifest) -> tuple[TensorSpec, ...]:
    """`specs` with the axes that count rows, which an engine does not know."""
    return tuple(replace(spec, batch_axis=manifest.batch_axes.get(spec.name, 0)) for spec in specs)


def _as_fed(spec: TensorSpec) -> TensorSpec:
    """`spec` for data of either integer width: TensorRT 8.6 turns the 64-bit inputs of a model into 32-bit ones."""
    return replace(spec, dtype="int64") if spec.dtype == "int32" else spec


def export_to_triton(
    folder: Path,
    repository: Path,
    name: str | None,
    key: Path | None = None,
    *,
    version: int = 1,
    serving: Serving | None = None,
) -> Path:
    """Write the engine of a run folder into a Triton model repository; returns the model's folder there.

    Raises:
        RunFolderError: There is no engine, it is not signed with the `key` that is asked for, or the repository cannot
            be written.
    """
    engine = located_engine(folder)
    manifest = read_manifest(engine.with_name(FILE_NAME), key)
    if manifest.platform.flavour == "rtx":
        raise RunFolderError(
            f"{engine} is an engine of TensorRT for RTX, which Triton does not run: build one with TensorRT on the "
            "server's GPU, with `trt-mpq engine RUN_DIR`"
        )
    model = read_network(folder).model
    called = name or folder.resolve().name
    return export_triton(
        engine, manifest, model.inputs, model.outputs, repository, called, version=version, serving=serving
    )


def located_engine(path: Path) -> Path:
    """The engine file that `path` (the file, its folder, or a run folder) stands for; raises RunFolderError."""
    for candidate in (path, path / ENGINE_FILE, path / ENGINE_FOLDER / ENGINE_FILE):
        if candidate.is_file():
            return candidate
    raise RunFolderError(f"there is no engine at {path}: build one with `trt-mpq engine RUN_DIR`")
