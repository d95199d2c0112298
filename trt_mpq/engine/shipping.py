"""The folder of a run in which the engine lies that is shipped, with its network and the manifest that binds them."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from trt_mpq import __version__
from trt_mpq.artifacts.files import atomic_path, key_of, sha256_of, to_json, to_stored_json, write_text
from trt_mpq.engine.handover import CalibratedNetwork
from trt_mpq.engine.manifest import FILE_NAME as MANIFEST_FILE
from trt_mpq.engine.manifest import EngineManifest, read_manifest, write_manifest
from trt_mpq.engine.signature import sign_manifest, signature_file
from trt_mpq.errors import ModelError, RunFolderError
from trt_mpq.model import external_data, model_digest
from trt_mpq.runtime.signatures import private_key
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Observer, PrecisionPlan, Ranges
from trt_mpq.types.engine import EngineBuild, Platform, ShapeRange

ENGINE_FOLDER, ENGINE_FILE, NETWORK_FILE = "engine", "engine.plan", "network.onnx"


def ship(
    run: Path,
    built: EngineBuild,
    plan: PrecisionPlan,
    described: CalibratedNetwork,
    options: EngineOptions,
    shapes: Mapping[str, ShapeRange],
) -> EngineManifest:
    """Copy an engine that was built, and its network beside it, into the folder `engine` of `run`, with a manifest.

    Weights beside a large network keep their file's name, which the network tells.

    Args:
        run: The run folder.
        built: The engine that was built, NAME.plan; its network is NAME.onnx.
        plan: What it runs.
        described: The network as it was handed over.
        options: How it was built.
        shapes: Optimization profile of the dynamic inputs.

    Raises:
        RunFolderError: A file cannot be written.
    """
    assert built.engine is not None
    assert built.platform is not None
    folder, engine = run / ENGINE_FOLDER, run / built.engine
    network, original = engine.with_suffix(".onnx"), described.original
    copies = {engine: ENGINE_FILE, network: NETWORK_FILE}
    if external_data(network).exists():
        copies[external_data(network)] = external_data(network).name
    # An engine is trusted by its manifest, which goes first and is written last.
    for outdated in (folder / MANIFEST_FILE, signature_file(folder / MANIFEST_FILE), *folder.glob("*.onnx.data")):
        outdated.unlink(missing_ok=True)
    for source, name in copies.items():
        with atomic_path(folder / name) as temporary:
            shutil.copyfile(source, temporary)
    write_text(folder / "plan.json", to_json(plan.as_dict(), dict[str, str]))
    manifest = EngineManifest(
        engine_sha256=sha256_of(folder / ENGINE_FILE),
        onnx_sha256=model_digest(folder / NETWORK_FILE),
        model_sha256=described.model.source_sha256,
        ranges_sha256=key_of(to_stored_json(described.ranges, Ranges)),
        plan=plan,
        plan_digest=plan.digest,
        platform=built.platform,
        options=options.model_dump(mode="json"),
        typing=built.typing,
        batch=described.batch,
        shapes=shapes,
        version=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        rebuild=shlex.join(["trt-mpq", "engine", str(run)]),
        batch_axes={s.name: s.batch_axis for s in (*original.inputs, *original.outputs) if s.batch_axis != 0},
        states=original.states,
    )
    write_manifest(folder / MANIFEST_FILE, manifest)
    return manifest


@contextmanager
def signing(run: Path, key: Path | None, observer: Observer) -> Iterator[None]:
    """Sign the engine that the block leaves in the run folder, if there is a `key`, which is read before the block.

    Raises:
        SettingsError: `key` holds no private Ed25519 key.
        RunFolderError: The signature cannot be written.
    """
    if key is not None:
        private_key(key)
    yield
    manifest = run / ENGINE_FOLDER / MANIFEST_FILE
    if key is not None and manifest.is_file():
        sign_manifest(manifest, key)
    elif key is not None:
        observer.note(f"nothing is signed: there is no engine in {run}")


def is_shipped(run: Path, engine_sha256: str | None) -> bool:
    """Whether the engine of that digest lies in the run folder `run` whole, with its manifest and network."""
    manifest = _whole(run)
    return manifest is not None and manifest.engine_sha256 == engine_sha256


def built_on_a_gpu(run: Path, plan: PrecisionPlan) -> bool:
    """Whether an engine of `plan` lies there whole that a GPU built, with kernels that it timed."""
    manifest = _whole(run)
    return manifest is not None and isinstance(manifest.platform, Platform) and manifest.plan_digest == plan.digest


def _whole(run: Path) -> EngineManifest | None:
    """The manifest of the engine that lies in the run folder `run`, if that and its network are what it says."""
    folder = run / ENGINE_FOLDER
    try:
        manifest = read_manifest(folder / MANIFEST_FILE)
        digests = sha256_of(folder / ENGINE_FILE), model_digest(folder / NETWORK_FILE)
    except (RunFolderError, ModelError, OSError):
        return None
    return manifest if digests == (manifest.engine_sha256, manifest.onnx_sha256) else None


def save_copy(run: Path, destination: Path) -> None:
    """Copy the engine of a run folder; raises RunFolderError if there is none, or it cannot be written."""
    engine = run / ENGINE_FOLDER / ENGINE_FILE
    if not engine.is_file():
        raise RunFolderError(f"there is no engine to save as {destination}: {run} has none, see its report")
    if not destination.parent.is_dir():
        raise RunFolderError(f"there is no folder {destination.parent}: create it or save the engine elsewhere")
    with atomic_path(destination) as temporary:
        shutil.copyfile(engine, temporary)
