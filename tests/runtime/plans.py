"""Engine files for tests, built by whatever `tensorrt` can be imported: a fake one, as a rule."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from trt_mpq.types.engine import ShapeRange


def plan_file(path: Path, network: onnx.ModelProto, shapes: Mapping[str, ShapeRange]) -> Path:
    """Build `network` with the given profile of its dynamic inputs into `path`."""
    import tensorrt as trt

    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    definition = builder.create_network(0 if explicit is None else 1 << int(explicit))
    assert trt.OnnxParser(definition, logger).parse(network.SerializeToString())
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if shapes:
        profile = builder.create_optimization_profile()
        for name, allowed in shapes.items():
            profile.set_shape(name, allowed.minimum, allowed.optimum, allowed.maximum)
        config.add_optimization_profile(profile)
    path.write_bytes(bytes(builder.build_serialized_network(definition, config)))
    return path
