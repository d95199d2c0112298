"""An engine file, loaded: what goes in and out of it, sessions that run it, and timers that time it.

The same calls on TensorRT 8.6 to 11: named tensors and `execute_async_v3`. Everything is freed when its block ends,
in the order TensorRT asks for: execution contexts, engine, runtime, CUDA context.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from trt_mpq.errors import RuntimeFailure
from trt_mpq.graph.onnx_api import first_line
from trt_mpq.runtime.base import Array, Arrays, Session
from trt_mpq.runtime.cuda import Stream, failures, primary_context
from trt_mpq.runtime.tensorrt.flavour import load_tensorrt, using
from trt_mpq.runtime.tensorrt.logger import BuildLog
from trt_mpq.runtime.tensorrt.refusal import needing_gpu
from trt_mpq.runtime.tensorrt.runtime_cache import execution_context
from trt_mpq.runtime.tensorrt.slot import Slot, fit
from trt_mpq.types import TensorSpec
from trt_mpq.types.engine import Flavour, Shape, ShapeRange

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


class LoadedEngine(AbstractContextManager["LoadedEngine"]):
    """An engine that TensorRT has loaded, on device 0; a context manager.

    Args:
        path: The engine file. It is code: load only what was built here or is vouched for by a manifest.
        plugins: Plugin libraries the engine needs.
        version_compatible: The engine carries its own runtime, which may then be executed.
        dla_core: The DLA core it runs on.
        flavour: Which TensorRT it is of. What TensorRT for RTX compiles at the first run is kept beside the file.
        content: What the file held when it was checked, which is loaded then; None reads the file.

    Attributes:
        inputs: What it reads; a dynamic first dimension is called "batch", any other after its tensor and axis.
        outputs: What it writes.
        ranges: Shapes each input may have, by name.

    Raises:
        MissingDependencyError: tensorrt or pycuda is not installed.
        RuntimeFailure: The file cannot be read, TensorRT refuses it, or there is no GPU.
    """

    def __init__(
        self,
        path: Path,
        plugins: Sequence[Path] = (),
        *,
        version_compatible: bool = False,
        dla_core: int | None = None,
        flavour: Flavour = "tensorrt",
        content: bytes | None = None,
    ) -> None:
        self.path, self._flavour = path, flavour
        with using(flavour), ExitStack() as stack:
            self._log, logger = _logger(load_tensorrt())
            self._heard = len(self._log.errors)
            stack.enter_context(primary_context())
            runtime = _runtime(self._log, logger, plugins)
            if version_compatible:
                runtime.engine_host_code_allowed = True
            if dla_core is not None:
                runtime.DLA_core = dla_core
            engine = self._deserialized(runtime, _read(path) if content is None else content)
            self.inputs, self.outputs = _tensors(engine, path)
            self.ranges = {spec.name: _shape_range(engine, spec) for spec in self.inputs}
            self._loaded: tuple[trt.Runtime, trt.ICudaEngine] | None = (runtime, engine)
            del runtime, engine
            stack.callback(self._forget)
            self._resources = stack.pop_all()

    @contextmanager
    def execution(self) -> Iterator[trt.IExecutionContext]:
        """An execution context, with device memory of its own."""
        if self._loaded is None:
            raise ValueError(f"{self.path} was closed")
        with using(self._flavour), self._context(self._loaded[1]) as context:
            if context is None:
                raise RuntimeFailure(
                    f"TensorRT cannot prepare {self.path.name} to run ({self.complaint()}): stop other programs on the "
                    "GPU, or build for a smaller batch"
                )
            yield context

    def _context(self, engine: trt.ICudaEngine) -> AbstractContextManager[trt.IExecutionContext | None]:
        if self._flavour == "rtx":
            return execution_context(engine, self.path.with_suffix(".runtime-cache"))
        return nullcontext(engine.create_execution_context())

    @contextmanager
    def session(self) -> Iterator[Session]:
        """The engine as a session that runs feeds."""
        with self.execution() as context, closing(_EngineSession(self, context)) as session:
            yield session

    def complaint(self) -> str:
        """The last error TensorRT told since this engine was opened."""
        errors = self._log.errors[self._heard :]
        return errors[-1] if errors else "it gave no reason"

    def close(self) -> None:
        """Free everything; the engine cannot be used any more."""
        self._resources.close()

    def _deserialized(self, runtime: trt.Runtime, content: bytes) -> trt.ICudaEngine:
        engine = runtime.deserialize_cuda_engine(content)
        if engine is None:
            complaint = self.complaint()
            remedy = (
                "stop other programs on the GPU, or build for a smaller batch"
                if "memory" in complaint.lower()
                else "an engine runs on the GPU model and TensorRT version it was built with, build it again here"
            )
            raise RuntimeFailure(f"TensorRT cannot load {self.path} ({complaint}): {remedy}")
        return engine

    def _forget(self) -> None:
        self._loaded = None

    def __exit__(self, *_: object) -> None:
        self.close()


class _EngineSession:
    """Runs an engine on feeds.

    A batch below the engine's smallest one is filled up with its last sample, and the outputs are cut again.
    """

    def __init__(self, engine: LoadedEngine, context: trt.IExecutionContext) -> None:
        self._engine, self._context = engine, context
        self._stream = Stream()
        self._slot: Slot | None = None

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in the engine's order."""
        return tuple(spec.name for spec in self._engine.outputs)

    def run(self, feeds: Mapping[str, Array]) -> Arrays:
        """Compute every output for `feeds`.

        Raises:
            DataError: An input is absent or does not fit the engine's type.
            RuntimeFailure: A shape is outside what the engine was built for, or the GPU failed.
        """
        fitted, filled = fit(feeds, self._engine.inputs, self._engine.ranges)
        with failures(f"running {self._engine.path.name}"):
            slot = self._slot_for({name: array.shape for name, array in fitted.items()})
            slot.fill(fitted)
            slot.upload(self._stream)
            if not self._context.execute_async_v3(self._stream.handle):
                raise RuntimeFailure(f"TensorRT cannot run {self._engine.path.name}: {self._engine.complaint()}")
            slot.download(self._stream)
            self._stream.synchronize()
        outputs = slot.outputs()
        if filled is None:
            return outputs
        given, padded = filled
        return {name: array[:given] if array.shape[:1] == (padded,) else array for name, array in outputs.items()}

    def close(self) -> None:
        """Free its buffers and let go of the execution context; nothing runs any more."""
        self._release()
        del self._context

    def _slot_for(self, shapes: Mapping[str, Shape]) -> Slot:
        """Buffers for inputs of these shapes; the last ones are kept, since most batches are alike."""
        if self._slot is None or self._slot.input_shapes != shapes:
            self._release()
            self._slot = Slot(self._context, self._engine.inputs, self._engine.outputs, shapes)
            self._slot.bind(self._context)
        return self._slot

    def _release(self) -> None:
        if self._slot is not None:
            self._slot.close()
            self._slot = None


@cache
def _logger(_tensorrt: ModuleType) -> tuple[BuildLog, trt.ILogger]:
    """The logger of all engines of the process: the plugin library keeps a pointer to the one it was given."""
    log = BuildLog(Path(os.devnull))  # its errors stay in memory
    return log, log.for_tensorrt()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RuntimeFailure(
            f"{path} cannot be read ({error.strerror}): build the engine again with `trt-mpq engine RUN_DIR`"
        ) from error


def _runtime(log: BuildLog, logger: trt.ILogger, plugins: Sequence[Path]) -> trt.Runtime:
    from trt_mpq.runtime.tensorrt.flavour import trt

    trt.init_libnvinfer_plugins(logger, "")
    for plugin in plugins:
        try:
            ctypes.CDLL(str(plugin.absolute()), mode=ctypes.RTLD_GLOBAL)  # a bare name is not sought in this folder
        except OSError as error:
            raise RuntimeFailure(
                f"the plugin library {plugin} cannot be loaded ({first_line(error)}): check its path and what it needs "
                "with ldd"
            ) from error
    with needing_gpu(log):
        return trt.Runtime(logger)


def _tensors(engine: trt.ICudaEngine, path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs in the engine's order; a dynamic first dimension is called "batch".

    Raises:
        RuntimeFailure: A tensor is of a type or place that is not supported.
    """
    from trt_mpq.runtime.tensorrt.flavour import trt

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


def _shape_range(engine: trt.ICudaEngine, spec: TensorSpec) -> ShapeRange:
    """Shapes that the first optimization profile allows for an input; its only shape if that is fixed."""
    fixed = tuple(size for size in spec.shape if isinstance(size, int))
    if len(fixed) == len(spec.shape):
        return ShapeRange(fixed, fixed, fixed)
    minimum, optimum, maximum = (tuple(shape) for shape in engine.get_tensor_profile_shape(spec.name, 0))
    return ShapeRange(minimum, optimum, maximum)
