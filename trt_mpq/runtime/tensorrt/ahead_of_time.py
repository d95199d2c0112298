"""TensorRT for RTX compiles engines on the CPU, for GPUs that it is told.

Its engines are finished on the GPU they run on, at their first run. Only there can they be loaded, so nothing is read
back from one here. A timing cache would make the compiler ask for a GPU, so there is none.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from trt_mpq.artifacts.files import atomic_path
from trt_mpq.runtime.tensorrt.config import MIB, add_profile
from trt_mpq.runtime.tensorrt.flavour import load_tensorrt
from trt_mpq.runtime.tensorrt.logger import BuildLog
from trt_mpq.runtime.tensorrt.network import parse_network
from trt_mpq.runtime.tensorrt.refusal import BuildError, failure
from trt_mpq.runtime.tensorrt.request import BuildRequest
from trt_mpq.settings import EngineOptions
from trt_mpq.types.engine import AheadOfTime, BuildStatus, EngineBuild
from trt_mpq.workers.idle import ended_when_idle
from trt_mpq.workers.memory import limited_memory

if TYPE_CHECKING:
    import tensorrt as trt

_IDLE_S = 60
"""Seconds without computing after which the compiler computes no more; it never waits for long."""


def compile_ahead(request: BuildRequest, logger: trt.ILogger, log: BuildLog) -> EngineBuild:
    """Parse, compile for the compute capabilities of `request`, and write the engine.

    Args:
        request: What to compile.
        logger: TensorRT's end of `log`; of a process it takes the first alone.
        log: Where errors and warnings go.

    Returns:
        The outcome; a network that is refused is one.

    Raises:
        MissingDependencyError: TensorRT for RTX is not installed.
        RuntimeFailure: It cannot be loaded.
        SettingsError: A plugin library cannot be loaded.
        RunFolderError: The engine cannot be written.
    """
    started = time.monotonic()
    engine = Path(request.engine)
    made_for = AheadOfTime(load_tensorrt().__version__, request.capabilities)
    try:
        with nullcontext() if request.at_hand else _bounded(request):
            compiled = _compiled(request, logger, log)
    except BuildError as refusal:
        seconds = time.monotonic() - started
        return EngineBuild(
            BuildStatus.FAILED, "strong", seconds, platform=made_for, errors=log.errors, warnings=log.warnings,
            reason=str(refusal),
        )  # fmt: skip
    with atomic_path(engine) as temporary:
        temporary.write_bytes(memoryview(compiled))
    return EngineBuild(
        BuildStatus.BUILT,
        "strong",
        time.monotonic() - started,
        engine=engine.name,
        size_bytes=engine.stat().st_size,
        platform=made_for,
        warnings=log.warnings,
        unused=tuple(_without_effect(request.options)),
    )


@contextmanager
def _bounded(request: BuildRequest) -> Iterator[None]:
    """Limits for a compiler without a GPU, for a CUDA driver maps far more than it uses, and waits for the GPU.

    A thread of the compiler that is refused memory may leave the others waiting for it.
    """
    with ended_when_idle(_IDLE_S), limited_memory(request.memory_limit_mib * MIB):
        yield


def _compiled(request: BuildRequest, logger: trt.ILogger, log: BuildLog) -> trt.IHostMemory:
    from trt_mpq.runtime.tensorrt.flavour import trt

    builder = trt.Builder(logger)
    network, parser, arrays = parse_network(request, builder, logger)
    config = builder.create_builder_config()
    _configure(config, request.options)
    if request.shapes:
        add_profile(builder, config, request.shapes)
    config.num_compute_capabilities = len(request.capabilities)
    for index, sm in enumerate(request.capabilities):
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{sm}"), index)
    compiled = builder.build_serialized_network(network, config)
    del parser, arrays  # they hold the weights until here
    if compiled is None:
        raise failure(f"refuses {Path(request.onnx).name}", log)
    return compiled


def _configure(config: trt.IBuilderConfig, options: EngineOptions) -> None:
    from trt_mpq.runtime.tensorrt.flavour import trt

    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib * MIB)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.refit:
        config.set_flag(trt.BuilderFlag.REFIT)
    if options.sparsity:
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)


def _without_effect(options: EngineOptions) -> Iterator[str]:
    for name in ("version_compatible", "hardware_compatible", "dla_core"):
        if getattr(options, name) != EngineOptions.model_fields[name].default:
            yield f"{name}: TensorRT for RTX has no such option"
