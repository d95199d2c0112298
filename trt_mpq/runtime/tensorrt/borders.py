"""What goes in and out of an engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trt_mpq.errors import RuntimeFailure
from trt_mpq.types import TensorSpec
from trt_mpq.types.engine import ShapeRange

if TYPE_CHECKING:
    import tensorrt as trt

_NUMPY_NAMES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "FP8": "float8_e4m3fn",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
"""TensorRT's names of types that an engine may read or write here to numpy's and ml_dtypes'."""


def tensors(engine: trt.ICudaEngine, path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs in the engine's order; a dynamic first dimension is called "batch".

    Raises:
        RuntimeFailure: A tensor is of a type or place that is not supported.
    """
    import tensorrt as trt

    found: dict[bool, list[TensorSpec]] = {True: [], False: []}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype = engine.get_tensor_dtype(name).name
        if dtype not in _NUMPY_NAMES:
            raise RuntimeFailure(
                f"{path.name} has the tensor {name} of type {dtype}, which cannot be fed or read here: cast it in the "
                "model"
            )
        if engine.get_tensor_location(name) == trt.TensorLocation.HOST:
            raise RuntimeFailure(
                f"{path.name} takes the shape tensor {name}, which is not supported: make it a constant"
            )
        shape = tuple(
            size if size >= 0 else "batch" if axis == 0 else f"{name}.{axis}"
            for axis, size in enumerate(tuple(engine.get_tensor_shape(name)))
        )
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        found[is_input].append(TensorSpec(name, _NUMPY_NAMES[dtype], shape))
    return tuple(found[True]), tuple(found[False])


def shape_range(engine: trt.ICudaEngine, spec: TensorSpec) -> ShapeRange:
    """Shapes that the first optimization profile allows for an input; its only shape if that is fixed."""
    fixed = tuple(size for size in spec.shape if isinstance(size, int))
    if len(fixed) == len(spec.shape):
        return ShapeRange(fixed, fixed, fixed)
    minimum, optimum, maximum = (tuple(shape) for shape in engine.get_tensor_profile_shape(spec.name, 0))
    return ShapeRange(minimum, optimum, maximum)
