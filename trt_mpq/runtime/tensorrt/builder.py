"""Builds one engine in this process. Callers go through `engine/build.py`, which survives a crash or hang in here."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trt_mpq.artifacts.files import atomic_path, write_text
from trt_mpq.runtime.tensorrt.ahead_of_time import compile_ahead
from trt_mpq.runtime.tensorrt.api import capabilities, resolve_typing
from trt_mpq.runtime.tensorrt.config import create_config
from trt_mpq.runtime.tensorrt.constraints import constrain
from trt_mpq.runtime.tensorrt.flavour import load_tensorrt, using
from trt_mpq.runtime.tensorrt.logger import BuildLog
from trt_mpq.runtime.tensorrt.network import parse_network
from trt_mpq.runtime.tensorrt.platform import this_platform
from trt_mpq.runtime.tensorrt.refusal import BuildError, failure, needing_gpu
from trt_mpq.runtime.tensorrt.request import BuildRequest, layers_file, log_file
from trt_mpq.runtime.tensorrt.timing_cache import TimingCache
from trt_mpq.types.engine import BuildStatus, EngineBuild, ShapeRange

if TYPE_CHECKING:
    import tensorrt as trt

_NO_LAYERS = '{"Layers": []}'


def build(request: BuildRequest) -> EngineBuild:
    """Build the engine of `request` with the TensorRT that it names.

    Returns:
        The outcome; an engine that TensorRT refused to build is one.

    Raises:
        TrtMpqError: As `compile_ahead` for TensorRT for RTX, as below for TensorRT itself.
    """
    with using(request.flavour):
        return _compile(request) if request.flavour == "rtx" else _build_here(request)


def _compile(request: BuildRequest) -> EngineBuild:
    """The engine that TensorRT for RTX makes, with the inspector's description of it where its GPU is at hand."""
    load_tensorrt()
    engine = Path(request.engine)
    log = BuildLog(log_file(engine))
    logger = log.for_tensorrt()
    build = compile_ahead(request, logger, log)
    if not build.built or not request.at_hand:
        return build
    try:
        layers = _described(request, engine.read_bytes(), logger, log)
    except BuildError as failed:
        return replace(build, status=BuildStatus.FAILED, engine=None, errors=log.errors, reason=str(failed))
    write_text(layers_file(engine), layers)
    return replace(build, layers=layers_file(engine).name)


def _build_here(request: BuildRequest) -> EngineBuild:
    """Parse, build, and write the engine and the inspector's description of it.

    Returns:
        The outcome; an engine that TensorRT refused to build is one.

    Raises:
        MissingDependencyError: tensorrt or pycuda is not installed.
        RuntimeFailure: TensorRT cannot be loaded or finds no GPU.
        SettingsError: This TensorRT cannot type the network as requested or lacks the hardware compatibility level,
            there is no such DLA core, or a plugin library cannot be loaded.
        RunFolderError: A file cannot be written.
    """
    resolve_typing(request.typing, capabilities())
    from trt_mpq.runtime.tensorrt.flavour import trt

    started = time.monotonic()
    engine = Path(request.engine)
    log = BuildLog(log_file(engine))
    logger = log.for_tensorrt()
    with needing_gpu(log):
        builder = trt.Builder(logger)
    platform = this_platform()
    timings = TimingCache(Path(request.timing_cache), platform)
    with log.expecting_errors():
        known, notes = timings.known(builder)
    try:
        with _polygraphy_silenced():
            network, parser, arrays = parse_network(request, builder, logger)
            config = create_config(builder, network, request.options, request.shapes, known)
            if request.typing == "weak":
                notes += constrain(network, config, request.constraints)
            plan = _serialized(request, (builder, network, parser), config, log)
            del arrays  # the network reads its weights from them until here
        layers = _described(request, plan, logger, log)
    except BuildError as failure:
        seconds = time.monotonic() - started
        return EngineBuild(
            BuildStatus.FAILED, request.typing, seconds, platform=platform, errors=log.errors, reason=str(failure)
        )
    write_text(layers_file(engine), layers)
    with atomic_path(engine) as temporary:
        temporary.write_bytes(memoryview(plan))
    measured = config.get_timing_cache()
    if measured is not None:
        timings.write(bytes(memoryview(measured.serialize())))
    return EngineBuild(
        BuildStatus.BUILT,
        request.typing,
        time.monotonic() - started,
        engine=engine.name,
        size_bytes=engine.stat().st_size,
        layers=layers_file(engine).name,
        platform=platform,
        unused=notes,
    )


def _polygraphy_silenced() -> AbstractContextManager[None]:
    """Polygraphy prints to the standard output; what it reports of TensorRT is in our log."""
    from polygraphy.logger import G_LOGGER

    silenced: AbstractContextManager[None] = G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1)
    return silenced


def _serialized(
    request: BuildRequest,
    network: tuple[trt.Builder, trt.INetworkDefinition, trt.OnnxParser],
    config: trt.IBuilderConfig,
    log: BuildLog,
) -> trt.IHostMemory:
    from polygraphy.backend.trt import EngineBytesFromNetwork
    from polygraphy.exception import PolygraphyException

    try:
        return EngineBytesFromNetwork(network, config=config)()
    except PolygraphyException as error:
        raise failure(f"could not build an engine from {Path(request.onnx).name}", log) from error


def _described(request: BuildRequest, plan: trt.IHostMemory | bytes, logger: trt.ILogger, log: BuildLog) -> str:
    """The engine inspector's JSON, which also proves that the engine can be loaded."""
    from trt_mpq.runtime.tensorrt.flavour import trt

    runtime = trt.Runtime(logger)
    runtime.engine_host_code_allowed = request.options.version_compatible  # safe: built in this process
    if request.options.dla_core is not None:
        runtime.DLA_core = request.options.dla_core
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise failure(f"cannot load the engine it built from {Path(request.onnx).name}", log)
    with log.expecting_errors():
        return _inspected(engine, request.shapes)


def _inspected(engine: trt.ICudaEngine, shapes: Mapping[str, ShapeRange]) -> str:
    """JSON with the layers of `engine`, as this TensorRT version writes it; no layers if it tells nothing.

    Without shapes of dynamic inputs TensorRT says "N/A due to dynamic shapes" instead of formats. Where memory does not
    suffice for an execution context, that has to do.
    """
    from trt_mpq.runtime.tensorrt.flavour import trt

    inspector = engine.create_engine_inspector()
    context = engine.create_execution_context() if shapes else None
    if context is not None:
        for name, allowed in shapes.items():
            context.set_input_shape(name, allowed.optimum)
        inspector.execution_context = context
    described: str | None = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return described or _NO_LAYERS
