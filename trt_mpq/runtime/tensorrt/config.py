"""From the deployer's options to a builder configuration, through Polygraphy where it fits.

Polygraphy's `Profile` takes names as wildcard patterns, so an input called `x[0]` would silently get another shape: the
optimization profile is made here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import TYPE_CHECKING

from trt_mpq.errors import SettingsError
from trt_mpq.runtime.tensorrt.refusal import BuildError
from trt_mpq.settings import EngineOptions
from trt_mpq.types.engine import ShapeRange

if TYPE_CHECKING:
    import tensorrt as trt

MIB = 1 << 20
"""Bytes."""


def create_config(
    builder: trt.Builder,
    network: trt.INetworkDefinition,
    options: EngineOptions,
    shapes: Mapping[str, ShapeRange],
    cache: bytes,
) -> trt.IBuilderConfig:
    """A configuration that honours `options`, without precisions.

    The engine always carries full layer descriptions, without which realised precisions cannot be read back.

    Args:
        builder: On the GPU the engine is for.
        network: What is going to be built.
        options: What the deployer asked for.
        shapes: The optimization profile; empty for a network of fixed shapes, which has none.
        cache: Content of a timing cache that TensorRT takes, or nothing.

    Raises:
        BuildError: TensorRT refused the optimization profile.
        SettingsError: There is no such DLA core, or this TensorRT lacks the hardware compatibility level.
    """
    from polygraphy.backend.trt import CreateConfig

    from trt_mpq.runtime.tensorrt.flavour import trt

    level = _compatibility_level(options)
    with tempfile.TemporaryFile() as timings:  # Polygraphy wants a file that has a mode, which BytesIO has not
        timings.write(cache)
        create = CreateConfig(
            profiles=[],
            tf32=options.tf32,
            load_timing_cache=timings if cache else None,
            sparse_weights=options.sparsity,
            refittable=options.refit,
            version_compatible=options.version_compatible,
            hardware_compatibility_level=level,
            builder_optimization_level=options.optimization_level,
            memory_pool_limits=_limits(options),
            profiling_verbosity=trt.ProfilingVerbosity.DETAILED,
        )
        config: trt.IBuilderConfig = create(builder, network)
    if options.dla_core is not None:
        _use_dla(builder, config, options.dla_core)
    if shapes:
        add_profile(builder, config, shapes)
    return config


def _limits(options: EngineOptions) -> dict[trt.MemoryPoolType, int] | None:
    from trt_mpq.runtime.tensorrt.flavour import trt

    if options.workspace_mib is None:
        return None
    return {trt.MemoryPoolType.WORKSPACE: options.workspace_mib * MIB}


def _compatibility_level(options: EngineOptions) -> trt.HardwareCompatibilityLevel | None:
    """Refused rather than left out where it is unknown: the manifest would let other GPUs load the engine."""
    from trt_mpq.runtime.tensorrt.flavour import trt

    wanted = options.hardware_compatible
    if wanted == "none":
        return None
    level = getattr(trt.HardwareCompatibilityLevel, wanted.upper(), None)
    if level is None:
        raise SettingsError(
            f"hardware_compatible {wanted} does not exist in TensorRT {trt.__version__}: choose another level or leave "
            "the option out"
        )
    return level


def _use_dla(builder: trt.Builder, config: trt.IBuilderConfig, core: int) -> None:
    """Polygraphy's own DLA option always takes core 0 and prefers precision constraints."""
    from trt_mpq.runtime.tensorrt.flavour import trt

    if core >= builder.num_DLA_cores:
        raise SettingsError(
            f"dla_core {core} does not exist: with TensorRT {trt.__version__} this device has {builder.num_DLA_cores} "
            "DLA cores, choose one of them or leave the option out"
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def add_profile(builder: trt.Builder, config: trt.IBuilderConfig, shapes: Mapping[str, ShapeRange]) -> None:
    """Give `config` the optimization profile `shapes`; raises BuildError if TensorRT refuses it."""
    profile = builder.create_optimization_profile()
    for name, given in shapes.items():
        profile.set_shape(name, given.minimum, given.optimum, given.maximum)
    if config.add_optimization_profile(profile) < 0:
        raise BuildError(f"TensorRT refused the optimization profile {', '.join(map(_text, shapes.items()))}")


def _text(item: tuple[str, ShapeRange]) -> str:
    name, given = item
    shapes = (given.minimum, given.optimum, given.maximum)
    return f"{name}={':'.join('x'.join(map(str, shape)) for shape in shapes)}"
