"""Networks, plans and plain ONNX Runtime sessions for the tests of emission."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper

from tests.networks import NETWORKS, Builder, sample_input
from tests.prepared import Prepared, prepare
from tests.transformers import TRANSFORMERS
from trt_mpq.emit import Emitter
from trt_mpq.runtime.base import Arrays
from trt_mpq.types import Precision, PrecisionPlan

LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")
ROWS, SUMMED, COLUMNS = 32, 64, 48
"""Sizes of `mixing`."""


def crossroads(seed: int = 0) -> onnx.ModelProto:
    """What the small networks lack; 3x16x16 to 10 classes.

    `hub.relu.out` is a network output (called `hub`) and is read by three groups and a Resize; the graph input is
    read by two groups and a loose op; Gemm with alpha, beta, transB and a bias of one row; a MatMul without
    bias; two layers with one weight; a residual Add of tensors from different layers; Concat.
    """
    b = Builder(seed)
    hub = b.relu("hub.relu", b.conv("hub", "input", (3, 16)))
    left, right = b.conv("left", hub, (16, 16)), b.relu("right.relu", b.conv("right", hub, (16, 16)))
    b.nodes[-2].input[1] = "left.weight"  # right shares the weight of left
    b.initializers[:] = [tensor for tensor in b.initializers if tensor.name != "right.weight"]
    total = b.relu("sum.relu", b.node("Add", "sum", [left, right]))
    raw = b.conv("raw", "input", (3, 16))
    scales = b.constant("scales", np.float32([1, 1, 2, 2]))
    upsampled = b.node("Resize", "up", [hub, "", scales], mode="linear")
    pooled = b.node("MaxPool", "down", [upsampled], kernel_shape=[2, 2], strides=[2, 2])
    joined = b.node("Concat", "join", [total, raw, pooled, "input"], axis=1)
    strided = b.relu("strided.relu", b.conv("strided", joined, (51, 16), stride=2))
    flat = b.node("Flatten", "flat", [b.node("GlobalAveragePool", "pool", [strided])])
    plain = b.node("MatMul", "plain", [flat, b.normal("plain.weight", (16, 24), 0.25)])
    inputs = [plain, b.normal("head.weight", (10, 24), 0.2), b.normal("head.bias", (1, 10), 0.5)]
    b.node("Gemm", "head", inputs, transB=1, alpha=0.5, beta=2.0)
    proto = b.model((3, 16, 16), (10,))
    rename(proto, hub, "hub")
    proto.graph.output.append(helper.make_tensor_value_info("hub", TensorProto.FLOAT, ["batch", 16, 16, 16]))
    onnx.checker.check_model(proto, full_check=True)
    return proto


def mixing() -> onnx.ModelProto:
    """Rows mixed by a weight on the left with a bias per row, then by one more: [N, 64, 48] to [N, 32, 48]."""
    b = Builder(5)
    mixed = b.node("MatMul", "mix", [b.normal("mix.weight", (SUMMED, SUMMED), SUMMED**-0.5), "input"])
    added = b.node("Add", "mix.add", [mixed, b.normal("mix.bias", (SUMMED, 1), 0.5)])
    scale = b.constant("scale", np.linspace(0.2, 4.0, ROWS, dtype=np.float32)[:, None])
    weight = b.random.standard_normal((ROWS, SUMMED)).astype(np.float32) * SUMMED**-0.5
    rows = b.constant("reduce.weight", weight * np.linspace(0.1, 10, ROWS, dtype=np.float32)[:, None])
    b.node("Mul", "out", [b.node("MatMul", "reduce", [rows, b.relu("relu", added)]), scale])
    return b.model((SUMMED, COLUMNS), (ROWS, COLUMNS))


def rename(proto: onnx.ModelProto, old: str, new: str) -> None:
    """Call a tensor of `proto` by another name."""
    for node in proto.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new


ALL_NETWORKS = {**NETWORKS, **TRANSFORMERS, "crossroads": crossroads, "mixing": mixing}


@cache
def prepared(name: str) -> Prepared:
    """A prepared network; never changed by anyone."""
    return prepare(ALL_NETWORKS[name]())


@cache
def emitter(name: str) -> Emitter:
    """An emitter for the network, calibrated on 16 samples."""
    network = prepared(name)
    return Emitter(network.graph, network.grouping, network.calibrated(network.samples(feeds(name)["input"])))


@cache
def feeds(name: str, count: int = 16) -> dict[str, np.ndarray]:
    """Standard normal samples."""
    return sample_input(ALL_NETWORKS[name](), count)


def uniform(name: str, precision: Precision) -> PrecisionPlan:
    """`precision` for all groups of the network."""
    return PrecisionPlan.uniform(prepared(name).grouping.groups, precision, Precision.FP16)


def run_plainly(
    graph: ir.Model | bytes,
    inputs: Mapping[str, np.ndarray],
    level: str = "ORT_ENABLE_ALL",
    qdq_passes: bool = True,
) -> Arrays:
    """What ONNX Runtime gives when nothing but the optimization level is set, and perhaps its Q/DQ passes are off."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_quant_qdq", "0" if qdq_passes else "1")
    data = graph if isinstance(graph, bytes) else ir.to_proto(graph).SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(inputs)), strict=True))


def deviation(expected: np.ndarray, actual: np.ndarray) -> float:
    """Root mean square of the difference, relative to that of `expected`."""
    difference = actual.astype(np.float64) - expected
    return float(np.sqrt(np.mean(difference**2) / np.mean(expected.astype(np.float64) ** 2)))
