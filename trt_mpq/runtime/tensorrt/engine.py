"""An engine file, loaded: what goes in and out of it, sessions that run it, and timers that time it.

The same calls on TensorRT 8.6 to 11: named tensors and `execute_async_v3`. Everything is freed when its block ends,
in the order TensorRT asks for: execution contexts, engine, runtime, CUDA context.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from trt_mpq.errors import RuntimeFailure
from trt_mpq.graph.onnx_api import first_line
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.runtime.cuda import Stream, failures, primary_context
from trt_mpq.runtime.tensorrt.api import load_tensorrt
from trt_mpq.runtime.tensorrt.borders import shape_range, tensors
from trt_mpq.runtime.tensorrt.description import describe
from trt_mpq.runtime.tensorrt.logger import BuildLog, tensorrt_logger
from trt_mpq.runtime.tensorrt.refusal import needing_gpu
from trt_mpq.runtime.tensorrt.slot import Slot, fit
from trt_mpq.runtime.tensorrt.timer import EngineTimer
from trt_mpq.types.engine import Shape

if TYPE_CHECKING:
    import onnx_ir as ir
    import tensorrt as trt

    from trt_mpq.runtime.tensorrt.timeable import Timer


class LoadedEngine(AbstractContextManager["LoadedEngine"]):
    """An engine that TensorRT has loaded, on device 0; a context manager.

    Args:
        path: The engine file. It is code: load only what was built here or is vouched for by a manifest.
        plugins: Plugin libraries the engine needs.
        version_compatible: The engine carries its own runtime, which may then be executed.
        dla_core: The DLA core it runs on.
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
        content: bytes | None = None,
    ) -> None:
        self.path = path
        self._log, logger = _logger(load_tensorrt())
        self._heard = len(self._log.errors)
        with ExitStack() as stack:
            stack.enter_context(primary_context())
            runtime = _runtime(self._log, logger, plugins)
            if version_compatible:
                runtime.engine_host_code_allowed = True
            if dla_core is not None:
                runtime.DLA_core = dla_core
            engine = self._deserialized(runtime, _read(path) if content is None else content)
            self.inputs, self.outputs = tensors(engine, path)
            self.ranges = {spec.name: shape_range(engine, spec) for spec in self.inputs}
            self._loaded: tuple[trt.Runtime, trt.ICudaEngine] | None = (runtime, engine)
            del runtime, engine
            stack.callback(self._forget)
            self._resources = stack.pop_all()

    @property
    def raw(self) -> trt.ICudaEngine:
        """TensorRT's engine."""
        if self._loaded is None:
            raise ValueError(f"{self.path} was closed")
        return self._loaded[1]

    def inspector_json(self) -> str:
        """The engine inspector's description of the layers, as this TensorRT version writes it."""
        return describe(self.raw, {name: shapes.optimum for name, shapes in self.ranges.items()})

    @contextmanager
    def execution(self) -> Iterator[trt.IExecutionContext]:
        """An execution context, with device memory of its own."""
        context = self.raw.create_execution_context()
        if context is None:
            raise RuntimeFailure(
                f"TensorRT cannot prepare {self.path.name} to run ({self.complaint()}): stop other programs on the "
                "GPU, or build for a smaller batch"
            )
        yield context

    @contextmanager
    def session(self) -> Iterator[EngineSession]:
        """The engine as a session that runs feeds."""
        with self.execution() as context, closing(EngineSession(self, context)) as session:
            yield session

    @contextmanager
    def timer(self, inputs: Sequence[Mapping[str, Array]]) -> Iterator[Timer]:
        """The engine ready to be timed on `inputs`, each a mapping of input name to array [batch, ...]."""
        with self.execution() as context, closing(EngineTimer(self, context, inputs)) as timer:
            yield timer

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


class EngineSession:
    """Runs an engine on feeds; a `trt_mpq.runtime.base.Session`.

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


class TensorRTRuntime:
    """Loads engine files as sessions; a `trt_mpq.runtime.base.Runtime`; `close` frees them all."""

    def __init__(self) -> None:
        self._version = str(load_tensorrt().__version__)
        self._resources = ExitStack()

    @property
    def name(self) -> str:
        """Library name and version."""
        return f"tensorrt {self._version}"

    def load(self, graph: ir.Model | Path) -> EngineSession:
        """Load the engine file `graph`; graphs must be built first."""
        if not isinstance(graph, Path):
            raise RuntimeFailure("TensorRT runs engine files only: build the graph first")
        engine = self._resources.enter_context(LoadedEngine(graph))
        return self._resources.enter_context(engine.session())

    def close(self) -> None:
        """Free all that was loaded."""
        self._resources.close()


@cache
def _logger(_tensorrt: ModuleType) -> tuple[BuildLog, trt.ILogger]:
    """The logger of all engines of the process: the plugin library keeps a pointer to the one it was given."""
    log = BuildLog(Path(os.devnull))  # its errors stay in memory
    return log, tensorrt_logger(log)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RuntimeFailure(
            f"{path} cannot be read ({error.strerror}): build the engine again with `trt-mpq engine RUN_DIR`"
        ) from error


def _runtime(log: BuildLog, logger: trt.ILogger, plugins: Sequence[Path]) -> trt.Runtime:
    import tensorrt as trt

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
