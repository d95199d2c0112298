"""Builds one engine in this process. Callers go through `engine.build`, which survives a crash or hang in here."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from trt_mpq.artifacts.files import atomic_path, write_text
from trt_mpq.runtime.tensorrt.api import capabilities, resolve_typing
from trt_mpq.runtime.tensorrt.config import cache_fits, create_config
from trt_mpq.runtime.tensorrt.constraints import constrain
from trt_mpq.runtime.tensorrt.description import describe
from trt_mpq.runtime.tensorrt.logger import BuildLog, tensorrt_logger
from trt_mpq.runtime.tensorrt.network import ParsedNetwork, create_builder, parse_network
from trt_mpq.runtime.tensorrt.platform import this_platform
from trt_mpq.runtime.tensorrt.refusal import BuildError
from trt_mpq.runtime.tensorrt.request import BuildRequest, layers_file, log_file
from trt_mpq.runtime.tensorrt.shapes import add_profile
from trt_mpq.runtime.tensorrt.timing_cache import cache_file, read_cache, write_cache
from trt_mpq.types.engine import BuildStatus, EngineBuild

if TYPE_CHECKING:
    import tensorrt as trt


def build(request: BuildRequest) -> EngineBuild:
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
    started = time.monotonic()
    engine = Path(request.engine)
    log = BuildLog(log_file(engine))
    logger = tensorrt_logger(log)
    builder = create_builder(logger, log)
    platform = this_platform()
    timings = cache_file(Path(request.timing_cache), platform)
    with log.expecting_errors():
        known, notes = _known_timings(timings, builder)
    try:
        with _polygraphy_silenced():
            network = parse_network(request, builder, logger)
            config = create_config(builder, network.definition, request.options, known)
            add_profile(builder, config, request.shapes)
            if request.typing == "weak":
                notes += constrain(network.definition, config, request.constraints)
            plan = _serialized(request, network, config, log)
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
        write_cache(timings, bytes(memoryview(measured.serialize())))
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


def _known_timings(file: Path, builder: trt.Builder) -> tuple[bytes, tuple[str, ...]]:
    """Content of a timing cache that TensorRT takes, else nothing and a note why."""
    try:
        content = read_cache(file)
    except OSError as error:
        return b"", (f"timing cache {file}: it cannot be read ({error.strerror})",)
    if content and not cache_fits(builder, content):
        return b"", (f"timing cache {file}: TensorRT refused its content, so it was made anew",)
    return content, ()


def _polygraphy_silenced() -> AbstractContextManager[None]:
    """Polygraphy prints to the standard output; what it reports of TensorRT is in our log."""
    from polygraphy.logger import G_LOGGER

    silenced: AbstractContextManager[None] = G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1)
    return silenced


def _serialized(
    request: BuildRequest, network: ParsedNetwork, config: trt.IBuilderConfig, log: BuildLog
) -> trt.IHostMemory:
    from polygraphy.backend.trt import EngineBytesFromNetwork
    from polygraphy.exception import PolygraphyException

    parts = (network.builder, network.definition, network.parser)
    try:
        return EngineBytesFromNetwork(parts, config=config)()
    except PolygraphyException as error:
        raise _failure(f"could not build an engine from {Path(request.onnx).name}", log) from error


def _described(request: BuildRequest, plan: trt.IHostMemory, logger: trt.ILogger, log: BuildLog) -> str:
    """The engine inspector's JSON, which also proves that the engine can be loaded."""
    import tensorrt as trt

    runtime = trt.Runtime(logger)
    runtime.engine_host_code_allowed = request.options.version_compatible  # safe: built in this process
    if request.options.dla_core is not None:
        runtime.DLA_core = request.options.dla_core
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise _failure(f"cannot load the engine it built from {Path(request.onnx).name}", log)
    with log.expecting_errors():
        return describe(engine, {name: shapes.optimum for name, shapes in request.shapes.items()})


def _failure(what: str, log: BuildLog) -> BuildError:
    import tensorrt as trt

    # The first error says why; those after it say what could not be done for that reason.
    return BuildError(f"TensorRT {trt.__version__} {what}: {log.errors[0] if log.errors else 'it gave no reason'}")
