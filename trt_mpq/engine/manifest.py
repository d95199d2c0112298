"""What an engine is and where it may run; an engine file is code, and is loaded only under a manifest that matches.

`admit` is the way to an engine's bytes: it hashes the very bytes it hands out, so a file that is exchanged between the
check and the load is not run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trt_mpq.artifacts.files import from_json, to_stored_json, write_text
from trt_mpq.engine.signature import require_signature
from trt_mpq.errors import RunFolderError, RuntimeFailure
from trt_mpq.types import PrecisionPlan
from trt_mpq.types.engine import AheadOfTime, Platform, ShapeRange, Typing, capabilities_text

FILE_NAME = "manifest.json"
_AMPERE = 80
BUILD_ANEW = "build the engine anew with `trt-mpq engine RUN_DIR`"
"""Never the command of the manifest, which whoever sent it may have written."""


@dataclass(frozen=True)
class EngineManifest:
    """Identity of one engine file. All digests are hex SHA-256 of files, except the plan's own short digest.

    Attributes:
        engine_sha256: The engine file.
        onnx_sha256: The typed ONNX file it was built from, followed by the file of its weights if it has one.
        model_sha256: The model that file was made from.
        ranges_sha256: The calibrated ranges behind its scales, None for a plan that quantizes nothing.
        plan: Precision of every group.
        plan_digest: `plan.digest`.
        platform: Where it was built, or what it was compiled for.
        options: The builder options, as `EngineOptions.model_dump(mode="json")` gives them.
        typing: How the network was typed.
        batch: Samples per inference that it was timed with.
        shapes: Optimization profile of each dynamic input.
        version: trt-mpq that built it.
        created: When, in UTC, as ISO 8601.
        rebuild: Command that builds it anew.
        batch_axes: Input or output to the axis that counts rows, None for none, where that is not the first.
        states: Input to the output that it is at the next step.
    """

    engine_sha256: str
    onnx_sha256: str
    model_sha256: str
    ranges_sha256: str | None
    plan: PrecisionPlan
    plan_digest: str
    platform: Platform | AheadOfTime
    options: Mapping[str, Any]
    typing: Typing
    batch: int
    shapes: Mapping[str, ShapeRange]
    version: str
    created: str
    rebuild: str
    batch_axes: Mapping[str, int | None]
    states: Mapping[str, str]


@dataclass(frozen=True)
class AdmittedEngine:
    """An engine that may be loaded here, and what to tell the user about differences that do not forbid it."""

    content: bytes
    warnings: tuple[str, ...]


def write_manifest(path: Path, manifest: EngineManifest) -> None:
    """Write `manifest` to `path` as JSON, atomically.

    Raises:
        RunFolderError: The file cannot be written.
    """
    write_text(path, to_stored_json(manifest, EngineManifest))


def read_manifest(path: Path, key: Path | None = None) -> EngineManifest:
    """The manifest in `path`, signed by the owner of the public key in the PEM file `key`, if one is given.

    Raises:
        RunFolderError: It is absent, damaged, cannot be read or is not signed with that key.
        SettingsError: `key` holds no public Ed25519 key.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise RunFolderError(
            f"{path} is missing, so nothing says what the engine beside it is: {BUILD_ANEW}"
        ) from error
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read ({error.strerror}): make it readable") from error
    if key is not None:
        require_signature(content, path, key)
    try:
        manifest = from_json(content, EngineManifest)
    except ValidationError as error:
        raise RunFolderError(f"{path} is damaged: {BUILD_ANEW}") from error
    if manifest.plan.digest != manifest.plan_digest:
        raise RunFolderError(f"{path} is damaged, its plan is not the one of its digest: {BUILD_ANEW}")
    return manifest


def admit(engine: Path, manifest: EngineManifest, platform: Platform) -> AdmittedEngine:
    """The bytes of an engine that its manifest allows to run on `platform`.

    Raises:
        RunFolderError: The engine is missing or cannot be read, or it was changed.
        RuntimeFailure: It was built for another platform.
    """
    try:
        content = engine.read_bytes()
    except OSError as error:
        raise RunFolderError(f"{engine} cannot be read ({error.strerror or error}): {BUILD_ANEW}") from error
    require_digest(manifest, engine, hashlib.sha256(content).hexdigest())
    return AdmittedEngine(content, _warnings(manifest, platform))


def require_digest(manifest: EngineManifest, engine: Path, digest: str) -> None:
    """Check that a file with the SHA-256 `digest`, read from `engine`, is the one of `manifest`.

    Raises:
        RunFolderError: It is not.
    """
    if digest != manifest.engine_sha256:
        raise RunFolderError(f"{engine} was changed after its manifest was written: {BUILD_ANEW}")


def _warnings(manifest: EngineManifest, platform: Platform) -> tuple[str, ...]:
    """Check that the engine may run on `platform`; the result is one warning per difference that does not matter.

    The GPU and TensorRT must be the same unless the engine was built compatible with others. Engines stay valid across
    drivers, as long as the CUDA version a driver supports is not of an older major than that of the build.

    Raises:
        RuntimeFailure: The engine was built for another platform.
    """
    built = manifest.platform
    if wrong := [*_wrong(manifest, platform)]:
        raise RuntimeFailure(f"the engine was built for {' and for '.join(wrong)}: {BUILD_ANEW} here")
    if isinstance(built, AheadOfTime):
        return ()
    return tuple(
        f"the engine was built with {name} {before} and runs with {now}: should it misbehave, {BUILD_ANEW}"
        for name, before, now in (("CUDA", built.cuda, platform.cuda), ("driver", built.driver, platform.driver))
        if before != now
    )


def _wrong(manifest: EngineManifest, platform: Platform) -> Iterator[str]:
    built = manifest.platform
    if isinstance(built, AheadOfTime):
        yield from _wrong_rtx(built, platform)
    else:
        yield from _wrong_gpu(manifest, built, platform)
        yield from _wrong_tensorrt(manifest, platform)
        yield from _wrong_cuda(built, platform)


def _wrong_rtx(built: AheadOfTime, platform: Platform) -> Iterator[str]:
    """TensorRT for RTX finishes an engine on any GPU that it was told when the engine was compiled."""
    if platform.sm not in built.capabilities:
        yield f"GPUs of compute capability {capabilities_text(built.capabilities)}, not {_gpu(platform)}"
    if (platform.flavour, platform.tensorrt) != (built.flavour, built.tensorrt):
        yield f"TensorRT for RTX {built.tensorrt}, not {_tensorrt(platform)}"


def _wrong_gpu(manifest: EngineManifest, built: Platform, platform: Platform) -> list[str]:
    level = manifest.options.get("hardware_compatible", "none")
    fits = {
        "same_compute_capability": built.sm == platform.sm,
        "ampere_plus": min(built.sm, platform.sm) >= _AMPERE,
    }.get(level, (built.gpu, built.sm) == (platform.gpu, platform.sm))
    return [] if fits else [f"{_gpu(built)}, not {_gpu(platform)}"]


def _wrong_tensorrt(manifest: EngineManifest, platform: Platform) -> list[str]:
    built, here = manifest.platform.tensorrt, platform.tensorrt
    same = manifest.platform.flavour == platform.flavour
    fits = same and (built == here or (_version_compatible(manifest) and _version(built) <= _version(here)))
    return [] if fits else [f"{_tensorrt(manifest.platform)}, not {here if same else _tensorrt(platform)}"]


def _wrong_cuda(built: Platform, platform: Platform) -> list[str]:
    fits = _version(built.cuda)[:1] <= _version(platform.cuda)[:1]
    return [] if fits else [f"CUDA {built.cuda}, not {platform.cuda}"]


def _version_compatible(manifest: EngineManifest) -> bool:
    return manifest.options.get("version_compatible") is True


def _gpu(platform: Platform) -> str:
    return f"{platform.gpu} (SM {capabilities_text((platform.sm,))})"


def _tensorrt(platform: Platform | AheadOfTime) -> str:
    return f"TensorRT {'for RTX ' if platform.flavour == 'rtx' else ''}{platform.tensorrt}"


def _version(text: str) -> tuple[int, ...]:
    """The numbers a version begins with; () if it begins with none."""
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(map(int, found.group().split("."))) if found else ()
