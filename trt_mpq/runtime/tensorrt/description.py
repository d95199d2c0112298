"""The engine inspector's description of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from trt_mpq.types.engine import Shape

if TYPE_CHECKING:
    import tensorrt as trt

_NOTHING = '{"Layers": []}'


def describe(engine: trt.ICudaEngine, shapes: Mapping[str, Shape]) -> str:
    """JSON with the layers of `engine`, as this TensorRT version writes it; no layers if it tells nothing.

    Args:
        engine: Built with detailed profiling verbosity.
        shapes: Input name to a shape its optimization profile allows. Without the shapes of dynamic inputs TensorRT
            says "N/A due to dynamic shapes" instead of formats. Where memory does not suffice for an execution
            context, that has to do.
    """
    import tensorrt as trt

    inspector = engine.create_engine_inspector()
    context = engine.create_execution_context() if shapes else None
    if context is not None:
        for name, shape in shapes.items():
            context.set_input_shape(name, shape)
        inspector.execution_context = context
    described: str | None = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return described or _NOTHING
