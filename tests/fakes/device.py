"""Building and running on the pretended device, the way the product does it, in as few lines as the tests need."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

BATCHES = (1, 4, 8)


def tensorrt() -> Any:
    """The fake TensorRT that is pretended now."""
    return importlib.import_module("tensorrt")


@dataclass
class Log:
    """What TensorRT said, as (severity, message)."""

    messages: list[tuple[str, str]] = field(default_factory=list)

    @property
    def errors(self) -> list[str]:
        """Messages of errors."""
        return [message for severity, message in self.messages if severity == "ERROR"]

    def logger(self) -> Any:
        """A TensorRT logger that fills this."""
        import tensorrt as trt

        messages = self.messages

        class Logger(trt.ILogger):
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, msg: str) -> None:
                messages.append((severity.name, msg))

        return Logger()


def parse(model: onnx.ModelProto, log: Log, *, strong: bool) -> tuple[Any, Any, Any]:
    """Builder, network and parser; the parser may have errors."""
    import tensorrt as trt

    builder = trt.Builder(log.logger())
    flags = trt.NetworkDefinitionCreationFlag
    wanted = ["EXPLICIT_BATCH"] + (["STRONGLY_TYPED"] if strong else [])
    network = builder.create_network(sum(1 << int(getattr(flags, name)) for name in wanted if hasattr(flags, name)))
    parser = trt.OnnxParser(network, log.logger())
    parser.parse(model.SerializeToString())
    return builder, network, parser


def build(
    model: onnx.ModelProto,
    log: Log | None = None,
    *,
    strong: bool = True,
    flags: tuple[str, ...] = (),
    precisions: Mapping[str, str] | None = None,
    verbosity: str = "DETAILED",
    compatible: str = "NONE",
) -> bytes | None:
    """The plan of `model` for batches of 1 to 8, None if the builder refuses."""
    import tensorrt as trt

    builder, network, _ = parse(model, log or Log(), strong=strong)
    for layer in network:
        if precisions and layer.name in precisions:
            layer.precision = getattr(trt.DataType, precisions[layer.name])
    config = builder.create_builder_config()
    config.profiling_verbosity = getattr(trt.ProfilingVerbosity, verbosity)
    config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, compatible)
    for name in flags:
        config.set_flag(getattr(trt.BuilderFlag, name))
    profile = builder.create_optimization_profile()
    profile.set_shape("x", *((batch, 3, 8, 8) for batch in BATCHES))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    return None if plan is None else bytes(plan)


def load(plan: bytes, log: Log | None = None) -> Any:
    """The engine, None if the runtime refuses."""
    import tensorrt as trt

    return trt.Runtime((log or Log()).logger()).deserialize_cuda_engine(plan)


def layers(plan: bytes) -> list[Any]:
    """What the inspector says of each layer."""
    import tensorrt as trt

    inspector = load(plan).create_engine_inspector()
    return list(json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))["Layers"])


def precisions_of(plan: bytes) -> dict[str, str]:
    """Layer name to the type of its first input."""
    return {
        layer["Name"]: layer["Inputs"][0].get("Datatype") or layer["Inputs"][0]["Format/Datatype"]
        for layer in layers(plan)
    }


@contextmanager
def context() -> Any:
    """pycuda with a current context."""
    import pycuda.driver as cuda

    cuda.init()
    primary = cuda.Device(0).retain_primary_context()
    primary.push()
    try:
        yield cuda
    finally:
        cuda.Context.pop()


class Runner:
    """One engine with its buffers on the device, for one batch."""

    def __init__(self, cuda: Any, plan: bytes, batch: int) -> None:
        self.cuda, self.log = cuda, Log()
        self.engine = load(plan, self.log)
        self.execution = self.engine.create_execution_context()
        self.stream = cuda.Stream(1)
        assert self.execution.set_input_shape("x", (batch, 3, 8, 8))
        self.output = np.zeros((batch, 10), np.float32)
        self.addresses = {"x": cuda.mem_alloc(batch * 3 * 8 * 8 * 4), "y": cuda.mem_alloc(self.output.nbytes)}
        for name, memory in self.addresses.items():
            assert self.execution.set_tensor_address(name, int(memory))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.cuda.memcpy_htod_async(self.addresses["x"], x, self.stream)
        assert self.execution.execute_async_v3(self.stream.handle), self.log.errors
        self.cuda.memcpy_dtoh_async(self.output, self.addresses["y"], self.stream)
        self.stream.synchronize()
        return self.output

    def milliseconds(self) -> float:
        """Time of one inference between two events."""
        began, ended = self.cuda.Event(), self.cuda.Event()
        began.record(self.stream)
        assert self.execution.execute_async_v3(self.stream.handle)
        ended.record(self.stream)
        ended.synchronize()
        return float(ended.time_since(began))
