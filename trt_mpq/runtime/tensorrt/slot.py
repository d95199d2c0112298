"""The buffers of one inference, and how feeds are made to fit an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from trt_mpq.errors import DataError, RuntimeFailure
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.runtime.cuda import Buffer, Stream
from trt_mpq.types import TensorSpec
from trt_mpq.types.engine import Shape, ShapeRange

if TYPE_CHECKING:
    import tensorrt as trt

_FLOATS = frozenset({"float64", "float32", "float16", "bfloat16", "float8_e4m3fn"})


class Slot:
    """Pinned and device memory of every input and output of one inference.

    Args:
        context: Gets the input shapes and tells the output shapes.
        inputs: The engine's inputs.
        outputs: The engine's outputs.
        shapes: Input name to shape.

    Attributes:
        input_shapes: Input name to shape.

    Raises:
        RuntimeFailure: TensorRT refuses the shapes, an output's shape depends on data, or memory ran out.
    """

    def __init__(
        self,
        context: trt.IExecutionContext,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        shapes: Mapping[str, Shape],
    ) -> None:
        self.input_shapes = dict(shapes)
        set_shapes(context, shapes)
        with ExitStack() as stack:
            self._inputs = {spec.name: _Tensor(spec, shapes[spec.name], stack) for spec in inputs}
            self._outputs = {spec.name: _Tensor(spec, _output_shape(context, spec), stack) for spec in outputs}
            self._resources = stack.pop_all()

    def fill(self, feeds: Mapping[str, Array]) -> None:
        """Copy `feeds`, already of the engine's types and these shapes, into pinned memory."""
        for name, tensor in self._inputs.items():
            tensor.array[...] = feeds[name]

    def bind(self, context: trt.IExecutionContext) -> None:
        """Let `context` read and write these buffers."""
        for name, tensor in (*self._inputs.items(), *self._outputs.items()):
            if not context.set_tensor_address(name, tensor.buffer.address):
                raise RuntimeFailure(f"TensorRT refuses the memory of the tensor {name}")

    def upload(self, stream: Stream) -> None:
        """Enqueue the copies of the inputs to the device."""
        for tensor in self._inputs.values():
            tensor.buffer.upload(stream)

    def download(self, stream: Stream) -> None:
        """Enqueue the copies of the outputs to the host."""
        for tensor in self._outputs.values():
            tensor.buffer.download(stream)

    def outputs(self) -> Arrays:
        """The outputs of the last inference, in memory of their own."""
        return {name: tensor.array.copy() for name, tensor in self._outputs.items()}

    def close(self) -> None:
        """Free the memory."""
        self._resources.close()


class _Tensor:
    """A buffer and the array it holds."""

    def __init__(self, spec: TensorSpec, shape: Shape, stack: ExitStack) -> None:
        dtype = _numpy_dtype(spec.dtype)
        self.buffer = Buffer(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        stack.callback(self.buffer.close)
        self.array: Array = self.buffer.host.view(dtype).reshape(shape)


def set_shapes(context: trt.IExecutionContext, shapes: Mapping[str, Shape]) -> None:
    """Give `context` the shape of every input; raises RuntimeFailure if it refuses one."""
    for name, shape in shapes.items():
        if not context.set_input_shape(name, shape):
            raise RuntimeFailure(
                f"TensorRT refuses the shape {_text(shape)} for the input {name}: build the engine for it with --shapes"
            )


def fit(
    feeds: Mapping[str, Array], inputs: Sequence[TensorSpec], ranges: Mapping[str, ShapeRange]
) -> tuple[Arrays, tuple[int, int] | None]:
    """Feeds of the types and shapes an engine takes.

    Returns:
        Input name to array; and, if the batch is below the engine's smallest one and was filled up by repeating the
        last sample, the samples that were given and how many there are now.

    Raises:
        DataError: An input is absent or does not fit the engine's type.
        RuntimeFailure: A shape is outside what the engine was built for.
    """
    absent = [spec.name for spec in inputs if spec.name not in feeds]
    if absent:
        raise DataError(
            f"the engine reads {', '.join(absent)}, but the data has only {', '.join(feeds) or 'nothing'}: add the rest"
        )
    fitted = {spec.name: _converted(feeds[spec.name], spec) for spec in inputs}
    filled: tuple[int, int] | None = None
    for name, array in fitted.items():
        least = ranges[name].minimum
        if array.ndim and least and array.shape[0] < least[0]:
            filled = array.shape[0], least[0]
            fitted[name] = np.concatenate([array, np.repeat(array[-1:], least[0] - array.shape[0], axis=0)])
        _check_shape(name, fitted[name].shape, ranges[name])
    return fitted, filled


def _converted(array: Array, spec: TensorSpec) -> Array:
    """`array` in the engine's type: floats may be rounded, integers must keep their value.

    Raises:
        DataError: A value would overflow or change, or the kinds differ.
    """
    wanted = _numpy_dtype(spec.dtype)
    if array.dtype == wanted:
        return array
    integers = array.dtype.kind in "iu" and wanted.kind in "iu"
    if not (integers or {array.dtype.name, wanted.name} <= _FLOATS):
        raise DataError(
            f"the engine's input {spec.name} is {wanted.name}, but the data is {array.dtype.name}: store it as "
            f"{wanted.name}"
        )
    with np.errstate(over="ignore"):
        cast: Array = array.astype(wanted)
    kept = np.array_equal(cast, array) if integers else bool(np.all(np.isfinite(cast) | ~np.isfinite(array)))
    if not kept:
        raise DataError(
            f"the engine's input {spec.name} is {wanted.name}, which cannot hold the data's values: check them"
        )
    return cast


def _numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy type called `name`, ml_dtypes' for bfloat16 and float8."""
    return np.dtype(getattr(ml_dtypes, name, name))


def _output_shape(context: trt.IExecutionContext, spec: TensorSpec) -> Shape:
    shape = tuple(context.get_tensor_shape(spec.name))
    if any(size < 0 for size in shape):
        raise RuntimeFailure(
            f"the shape of the output {spec.name} depends on the data, which is not supported: export the model "
            "without the operators behind it, such as NonMaxSuppression"
        )
    return shape


def _check_shape(name: str, shape: Shape, allowed: ShapeRange) -> None:
    least, most = allowed.minimum, allowed.maximum
    if len(shape) != len(most) or any(not a <= size <= b for a, size, b in zip(least, shape, most, strict=True)):
        built_for = _text(most) if least == most else f"{_text(least)} to {_text(most)}"
        raise RuntimeFailure(
            f"the engine takes {name} of shape {built_for}, not {_text(shape)}: use a batch it was built for, "
            "or build it for larger shapes"
        )


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"
