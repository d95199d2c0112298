"""Hand-made inputs for sensitivity metrics: groups without fusion, min-max ranges, samples from arrays."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx
import onnx_ir as ir

from tests.networks import Builder
from trt_mpq.dataset import samples_from_arrays
from trt_mpq.emit.network import Network
from trt_mpq.evaluate.losses import LOSSES
from trt_mpq.runtime.base import with_outputs
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.sensitivity import SensitivityInputs
from trt_mpq.types import (
    Grouping,
    LayerGroup,
    Model,
    Precision,
    QuantizedInput,
    Ranges,
    TensorRange,
    TensorSpec,
    Weight,
)

QUANTIZED = (Precision.INT8, Precision.FP8, Precision.INT4)
_CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1, "MatMul": 1}


def one_group_per_layer(model: ir.Model) -> Grouping:
    layers = [node for node in model.graph if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    layers = [node for node in layers if node.inputs[1] is not None and node.inputs[1].is_initializer()]
    return Grouping(tuple(_group(node, index) for index, node in enumerate(layers)), (), ())


def _group(node: ir.Node, index: int) -> LayerGroup:
    data, weight = node.inputs[0], node.inputs[1]
    gemm_axis = 1 - node.attributes.get_int("transB", 0)
    axis = _CHANNEL_AXIS.get(node.op_type, gemm_axis)
    return LayerGroup(
        id=node.name,
        index=index,
        op_type=node.op_type,
        nodes=(node.name,),
        weights=(
            Weight(weight.name, tuple(weight.shape), axis, node.name, None, node.outputs[0].name, 1, len(weight.shape)),
        ),
        inputs=(QuantizedInput(data.name, node.name, 0, "input"),),
        writes={node.outputs[0].name: 1},
        flops=1,
        input_elements=1,
    )


def observed_ranges(model: ir.Model, grouping: Grouping, feeds: dict[str, np.ndarray]) -> Ranges:
    names = dict.fromkeys(read.tensor for group in grouping.groups for read in group.inputs)
    values = OnnxRuntime(1).load(with_outputs(model, tuple(names))).run(feeds)
    ranges = {name: (float(values[name].min()), float(values[name].max())) for name in names}
    amax = {name: max(-low, high) for name, (low, high) in ranges.items()}
    tensors = {n: TensorRange(*ranges[n], dict.fromkeys(QUANTIZED, amax[n])) for n in names}
    return Ranges({}, len(next(iter(feeds.values()))), tensors)


def inputs_for(
    proto: onnx.ModelProto, feeds: dict[str, np.ndarray], labels: np.ndarray | None = None, **changes: object
) -> SensitivityInputs:
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    grouping = one_group_per_layer(model)
    samples = samples_from_arrays(feeds, specs_of(model), labels)
    ranges = observed_ranges(model, grouping, feeds)
    settings: dict[str, object] = {
        "network": Network(Model("model.onnx", "", "", (), (), 17, 0, 0), model, grouping, ranges),
        "candidates": QUANTIZED,
        "samples": samples,
        "sample_limit": samples.count,
        "loss": LOSSES["kl"],
        "runtime": OnnxRuntime(1),
        "batch": 8,
        "seed": 0,
    }
    return SensitivityInputs(**(settings | changes))


def with_network(inputs: SensitivityInputs, **changes: object) -> SensitivityInputs:
    """`inputs` with another graph, grouping or ranges."""
    return replace(inputs, network=replace(inputs.network, **changes))


def specs_of(model: ir.Model) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(v.name, v.dtype.numpy().name, tuple(d if isinstance(d, int) else "batch" for d in v.shape))
        for v in model.graph.inputs
    )


def smooth_mlp(sizes: tuple[int, ...], seed: int = 0) -> onnx.ModelProto:
    """MatMuls with tanh between them, no biases: twice differentiable everywhere."""
    b = Builder(seed)
    x = "input"
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes), start=1):
        x = b.node("MatMul", f"fc{i}", [x, b.normal(f"fc{i}.weight", (fan_in, fan_out), fan_in**-0.5)])
        if i < len(sizes) - 1:
            x = b.node("Tanh", f"fc{i}.tanh", [x])
    return b.model((sizes[0],), (sizes[-1],))


def smooth_cnn(seed: int = 0) -> onnx.ModelProto:
    """Two strided convolutions with biases and softplus, global average, Gemm; 2x6x6 to 3 classes."""
    b = Builder(seed)
    x = b.node("Softplus", "conv1.act", [b.conv("conv1", "input", (2, 4), stride=2)])
    x = b.node("Softplus", "conv2.act", [b.conv("conv2", x, (4, 4))])
    pooled = b.node("ReduceMean", "pool", [x], axes=[2, 3], keepdims=0)
    b.gemm("head", pooled, (4, 3))
    return b.model((2, 6, 6), (3,))


def fix_batch(proto: onnx.ModelProto, size: int) -> onnx.ModelProto:
    """The same network for batches of exactly `size` samples."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(proto)
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = size
    return fixed
