"""Execution: ONNX Runtime computes on what lies at the tensor addresses, the clock takes the layers' times."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from trt_fake import world
from trt_fake.classes import Stored
from trt_fake.cost import layer_ms
from trt_fake.memory import IllegalAddressError
from trt_fake.onnx_graph import Graph
from trt_fake.plan import Plan

_NUMPY = {
    "fp32": np.dtype(np.float32),
    "fp16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "fp8": np.dtype(ml_dtypes.float8_e4m3fn),
    "int8": np.dtype(np.int8),
    "uint8": np.dtype(np.uint8),
    "int32": np.dtype(np.int32),
    "int64": np.dtype(np.int64),
    "bool": np.dtype(np.bool_),
}
_REMEMBERED = 32
"""Input sets whose results are kept, because timing runs the same few again and again."""


class IExecutionContext:
    """Runs one engine."""

    name = Stored("")
    enqueue_emits_profile = Stored(True)
    debug_sync = Stored(False)
    error_recorder = Stored(None)
    persistent_cache_limit = Stored(0)
    nvtx_verbosity = Stored("ProfilingVerbosity.LAYER_NAMES_ONLY")

    def _setup(self, engine: Any, plan: Plan, logger: Any) -> None:
        self._engine, self._plan, self._logger = engine, plan, logger
        self._profile = 0
        self._addresses: dict[str, int] = {}
        self._reporter: Any = None
        self._unreported: list[float] = []
        self._results: dict[bytes, list[NDArray[Any]]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {
            border.name: border.shape for border in plan.inputs if -1 not in border.shape
        }

    def _error(self, message: str) -> bool:
        self._logger.log(self._api.Logger.ERROR, f"IExecutionContext::{message}")
        return False

    @property
    def engine(self) -> Any:
        return self._engine

    @property
    def active_optimization_profile(self) -> int:
        return self._profile

    @active_optimization_profile.setter
    def active_optimization_profile(self, value: int) -> None:
        self._profile = value

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if profile_index >= len(self._plan.profiles):
            return self._error(f"setOptimizationProfileAsync: Error Code 3: API Usage Error (profile {profile_index})")
        self._profile = profile_index
        return True

    @property
    def all_binding_shapes_specified(self) -> bool:
        return not self.infer_shapes()

    def set_input_shape(self, name: str, shape: Any) -> bool:
        ranges = self._plan.profiles[self._profile].get(name)
        sizes = tuple(int(size) for size in shape)
        if ranges is None:
            return self._error(f"setInputShape: Error Code 3: API Usage Error (Given invalid tensor name: {name}.)")
        low, _, high = ranges
        if len(sizes) != len(low) or not all(a <= s <= b for a, s, b in zip(low, sizes, high, strict=True)):
            return self._error(
                "setInputShape: Error Code 3: API Usage Error (Parameter check failed, condition: "
                f"engineDims.d[i] == dims.d[i]. Static dimension mismatch while setting input shape for {name}: "
                f"{list(sizes)} is not between {low} and {high}.)"
            )
        self._shapes[name] = sizes
        return True

    def get_tensor_shape(self, name: str) -> Any:
        if name in self._shapes:
            return self._api.Dims(self._shapes[name])
        border = self._engine._border(name)
        if border is None or self.infer_shapes():
            return self._api.Dims(border.shape if border else ())
        return self._api.Dims(self._concrete().info(name).shape)

    def infer_shapes(self) -> list[str]:
        return [border.name for border in self._plan.inputs if border.name not in self._shapes]

    def get_max_output_size(self, name: str) -> int:
        return int(np.prod(tuple(self.get_tensor_shape(name)))) * _NUMPY[self._engine._border(name).dtype].itemsize

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if self._engine._border(name) is None:
            return self._error(f"setTensorAddress: Error Code 3: API Usage Error (Given invalid tensor name: {name}.)")
        self._addresses[name] = memory
        return True

    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(name, 0)

    @property
    def profiler(self) -> Any:
        return self._reporter

    @profiler.setter
    def profiler(self, value: Any) -> None:
        self._reporter = value

    def report_to_profiler(self) -> bool:
        if self._reporter is None or not self._unreported:
            return self._error("reportToProfiler: Error Code 3: API Usage Error (nothing was enqueued)")
        for layer, ms in zip(self._plan.layers, self._unreported, strict=True):
            self._reporter.report_layer_time(layer.name, ms)
        self._unreported = []
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        missing = [b.name for b in (*self._plan.inputs, *self._plan.outputs) if not self._addresses.get(b.name)]
        if missing:
            return self._error(f"enqueueV3: Error Code 3: API Usage Error (Address is not set for tensors {missing}.)")
        if self.infer_shapes():
            return self._error(
                f"enqueueV3: Error Code 3: API Usage Error (Shapes of {self.infer_shapes()} are not set.)"
            )
        stream = world.clock().stream(stream_handle)
        addresses, shapes, times = dict(self._addresses), dict(self._shapes), self._times()
        if stream.captured is not None:
            stream.captured.append(lambda: self._compute(addresses, shapes))
            stream.durations += times
            return True
        try:
            self._compute(addresses, shapes)
        except IllegalAddressError as error:
            return self._error(
                f"enqueueV3: Error Code 1: Cuda Runtime (an illegal memory access was encountered): {error}"
            )
        self._unreported = world.clock().run(stream, times, launches=len(times))
        if self._reporter is not None and self.enqueue_emits_profile:
            self.report_to_profiler()
        return True

    def _times(self) -> list[float]:
        """Time of every layer at the shapes that are set."""
        optimum = self._plan.profiles[self._profile]
        name = self._plan.inputs[0].name
        scale = float(np.prod(self._shapes[name]) / np.prod(optimum[name][1]))
        return [layer_ms(layer, world.behaviour(), scale) for layer in self._plan.layers]

    def _compute(self, addresses: dict[str, int], shapes: dict[str, tuple[int, ...]]) -> None:
        memory = world.memory()
        feeds, hashed = {}, hashlib.blake2b(digest_size=16)
        for border in self._plan.inputs:
            shape, dtype = shapes[border.name], _NUMPY[border.dtype]
            raw = memory.view(addresses[border.name], int(np.prod(shape)) * dtype.itemsize)
            feeds[border.name] = raw.view(dtype).reshape(shape)
            hashed.update(raw.data)
            hashed.update(repr(shape).encode())
        digest = hashed.digest()
        if digest not in self._results:
            if len(self._results) >= _REMEMBERED:
                self._results.clear()
            self._results[digest] = self._session.run(None, feeds)
        for border, value in zip(self._plan.outputs, self._results[digest], strict=True):
            data = np.frombuffer(np.ascontiguousarray(value).tobytes(), np.uint8)
            memory.view(addresses[border.name], data.nbytes)[:] = data

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        return onnxruntime.InferenceSession(
            _without_bf16(self._plan.model), options, providers=["CPUExecutionProvider"]
        )

    def _concrete(self) -> Graph:
        import onnx

        return Graph.of(onnx.load_model_from_string(self._plan.model), self._shapes)


def _without_bf16(model: bytes) -> bytes:
    """The model with FP32 in place of BF16, for which ONNX Runtime has no kernels on the CPU."""
    import onnx
    from onnx import TensorProto, numpy_helper

    proto = onnx.load_model_from_string(model)
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.BFLOAT16:
            content = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(content, tensor.name))
    for node in proto.graph.node:
        for attribute in node.attribute if node.op_type == "Cast" else ():
            if attribute.name == "to" and attribute.i == TensorProto.BFLOAT16:
                attribute.i = TensorProto.FLOAT
    del proto.graph.value_info[:]
    return bytes(proto.SerializeToString())
