"""Code as it could stand in the product, never run: marked lines must be refused with the stubs of those versions.

It proves that the type check bites, and that it lets through what TensorRT takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import tensorrt as trt
    from numpy.typing import NDArray


def flags(config: trt.IBuilderConfig) -> int:
    import tensorrt as trt

    config.set_flag(trt.BuilderFlag.TF32)
    config.set_flag(trt.BuilderFlag.FP16)  # refused: 11.4 rtx-1.7
    config.set_flag(trt.BuilderFlag.STRIP_PLAN)  # refused: 8.6
    config.set_flag("TF32")  # refused: 8.6 10.16 11.4 rtx-1.7
    config.set_flag(trt.TacticSource.JIT_CONVOLUTIONS)  # refused: 8.6 10.16 11.4 rtx-1.7
    both = 1 << int(trt.BuilderFlag.REFIT) | 1 << int(trt.BuilderFlag.DEBUG)
    strong = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)  # refused: 8.6
    return both | strong | 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)  # refused: 11.4 rtx-1.7


def weak_typing(layer: trt.ILayer, tensor: trt.ITensor) -> None:
    import tensorrt as trt

    layer.precision = trt.DataType.HALF  # refused: 11.4 rtx-1.7
    layer.set_output_type(0, trt.float16)  # refused: 11.4 rtx-1.7
    tensor.set_dynamic_range(-1.0, 1.0)  # refused: 11.4 rtx-1.7
    layer.num_outputs = 2  # refused: 8.6 10.16 11.4 rtx-1.7
    layer.name = "a writable property"
    layer.nmae = "a misspelt one"  # refused: 8.6 10.16 11.4 rtx-1.7


def layers(network: trt.INetworkDefinition) -> list[str]:
    cast = network.add_cast(network.get_input(0), network.get_input(0).dtype)
    cast.name = "adding a layer may fail"  # refused: 8.6 10.16 11.4 rtx-1.7
    convolution: trt.IConvolutionLayer | None = None
    base: trt.ILayer | None = convolution
    return [layer.name for layer in network] + [base.name if base else ""]


def build(builder: trt.Builder, network: trt.INetworkDefinition, config: trt.IBuilderConfig) -> bytes:
    profile = builder.create_optimization_profile()
    profile.set_shape("input", (1, 3, 8, 8), [4, 3, 8, 8], [8, 3, 8, 8])
    profile.set_shape("input", 1, 4, 8)  # refused: 8.6 10.16 11.4 rtx-1.7
    if config.add_optimization_profile(profile) < 0:
        return b""
    if config.progress_monitor is None:  # refused: 8.6
        return b""
    plan = builder.build_serialized_network(network, config)
    if plan is not None:
        return bytes(plan)
    return bytes(plan)  # refused: 8.6 10.16 11.4 rtx-1.7


def load(log: trt.ILogger, plan: bytes, config: trt.IBuilderConfig) -> None:
    import tensorrt as trt

    engine = trt.Runtime(log).deserialize_cuda_engine(plan)
    engine.create_engine_inspector()  # refused: 8.6 10.16 11.4 rtx-1.7
    if engine is not None:
        inspector = engine.create_engine_inspector()
        inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        context = engine.create_execution_context()
        context.set_input_shape("input", (1, 3, 8, 8))  # refused: 8.6 10.16 11.4 rtx-1.7
    config.get_timing_cache().serialize()  # refused: 8.6 10.16 11.4 rtx-1.7
    cache = config.create_timing_cache(b"")
    config.set_timing_cache(cache, ignore_mismatch=False)  # refused: 8.6 10.16 11.4 rtx-1.7
    if cache is not None:
        config.set_timing_cache(cache, ignore_mismatch=False)


def run(engine: trt.ICudaEngine, context: trt.IExecutionContext, address: int) -> tuple[int, ...]:
    context.set_input_shape("input", (1, 3, 8, 8))
    context.set_tensor_address("input", address)
    context.set_tensor_address("input", "address")  # refused: 8.6 10.16 11.4 rtx-1.7
    context.execute_async_v2([address], 0)  # refused: 10.16 11.4 rtx-1.7
    context.profiler = None
    size: int = engine.device_memory_size_v2  # refused: 8.6
    return (size, engine.device_memory_size, *engine.get_tensor_shape("input"))  # refused: 11.4 rtx-1.7


def parse(network: trt.INetworkDefinition, log: trt.ILogger, weights: NDArray[np.float32]) -> str:
    import tensorrt as trt

    trt.init_libnvinfer_plugins(log, "")
    parser = trt.OnnxParser(network, log)
    trt.OnnxParser(log)  # refused: 8.6 10.16 11.4 rtx-1.7
    network.add_constant((1, 3), weights)
    if parser.parse(b"a model"):
        return ""
    error = parser.get_error(0)
    return f"{error.desc()} {error.node_name()} {trt.__version__}"  # refused: 8.6


def ahead_of_time(config: trt.IBuilderConfig) -> None:
    import tensorrt as trt

    config.num_compute_capabilities = 1  # refused: 8.6 10.16 11.4
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)  # refused: 8.6 10.16 11.4
    config.set_compute_capability(trt.ComputeCapability.SM90, 0)  # refused: 8.6 10.16 11.4 rtx-1.7
    config.set_compute_capability(89, 0)  # refused: 8.6 10.16 11.4 rtx-1.7


def subclasses() -> tuple[trt.ILogger, trt.IProfiler]:
    import tensorrt as trt

    class Log(trt.ILogger):
        def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
            if severity == trt.ILogger.ERROR or severity == trt.Logger.Severity.WARNING:
                raise ValueError(msg)

    class Times(trt.IProfiler):
        def report_layer_time(self, layer_name: str, ms: float) -> None:
            raise ValueError(layer_name, ms)

    class Wrong(trt.IProfiler):
        def report_layer_time(self, layer_name: int, ms: float) -> None:  # refused: 8.6 10.16 11.4 rtx-1.7
            raise ValueError(layer_name, ms)

    return Log(), Times()
