"""Patch embeddings as matrix products: the numbers of torch's convolution, and of FP8 by ml_dtypes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.emit.examples import deviation, run_plainly
from tests.networks import Builder
from tests.prepared import RUNTIME, Prepared, normal, prepare
from trt_mpq.emit import Refinements
from trt_mpq.emit.describe import describe_placement
from trt_mpq.emit.patches import as_columns, multiply_patches
from trt_mpq.lint import Severity, lint_graph
from trt_mpq.numerics import QuantizedWeight, WeightScales
from trt_mpq.types import Precision

FP8, INT8 = Precision.FP8, Precision.INT8
CHANNELS, WIDTH = 3, 20
SHAPES = [((120,), (40,)), ((24, 12), (6, 6)), ((8, 6, 12), (4, 3, 4))]


def embedding(size: tuple[int, ...], kernel: tuple[int, ...], bias: bool = True) -> Prepared:
    """Patches, a Relu that is fused behind them, and a pointwise convolution."""
    b = Builder(5)
    inputs = ["input", b.normal("patch.weight", (WIDTH, CHANNELS, *kernel), 0.1)]
    inputs += [b.normal("patch.bias", (WIDTH,), 0.5)] if bias else []
    hidden = b.relu("relu", b.node("Conv", "patch", inputs, kernel_shape=kernel, strides=kernel))
    b.node("Conv", "last", [hidden, b.normal("last.weight", (8, WIDTH, *[1] * len(size)), 0.3)])
    grid = [s // k for s, k in zip(size, kernel, strict=True)]
    return prepare(b.model((CHANNELS, *size), (8, *grid)))


def constant(network: Prepared, name: str) -> np.ndarray:
    value = network.graph.graph.initializers[name].const_value
    assert value is not None
    return value.numpy()


def convolved(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """torch's convolution whose stride is the kernel, in FP32."""
    import torch

    stride = weight.shape[2:]
    convolve = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}[len(stride)]
    given = [None if value is None else torch.from_numpy(np.array(value)) for value in (x, weight, bias)]
    return convolve(*given, stride=stride).numpy()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("size", "kernel"), SHAPES)
def test_the_product_is_what_torch_convolves(size: tuple[int, ...], kernel: tuple[int, ...], bias: bool) -> None:
    network = embedding(size, kernel, bias)
    graph, weight = network.graph.clone(), network.grouping.groups[0].weight
    node = next(node for node in graph.graph if node.name == "patch")
    multiply_patches(graph.graph, node, weight.patches)
    stored = QuantizedWeight(constant(network, weight.name), WeightScales(np.ones(WIDTH, np.float32), 0))
    content = ir.tensor(as_columns(stored).codes, name="columns")
    graph.graph.register_initializer(columns := ir.Value(name="columns", const_value=content))
    node.replace_input_with(1, columns)
    onnx.checker.check_model(ir.to_proto(graph), full_check=True)
    x = normal(5, CHANNELS, *size)
    (found,) = RUNTIME.load(graph).run({"input": x}).values()
    hidden = convolved(x, constant(network, weight.name), constant(network, "patch.bias") if bias else None)
    expected = convolved(hidden.clip(0), constant(network, "last.weight"))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def fp8(values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Through E4M3 and back."""
    return (values / scale).clip(-448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale


@pytest.mark.parametrize(("size", "kernel"), SHAPES[:2])
def test_fp8_patches_are_those_of_ml_dtypes(size: tuple[int, ...], kernel: tuple[int, ...]) -> None:
    network, x = embedding(size, kernel), normal(16, CHANNELS, *size)
    emitter = network.network(network.samples(x)).emitter()
    plan = network.grouping.uniform(Precision.FP16).replace({"patch": FP8})
    weight = constant(network, "patch.weight")
    scale = np.float16(np.abs(weight).max(axis=tuple(range(1, weight.ndim)), keepdims=True) / 448)
    quantized = fp8(x.astype(np.float16), np.float16(np.abs(x).max() / 448).astype(np.float32))
    hidden = convolved(quantized, fp8(weight, scale.astype(np.float32)), constant(network, "patch.bias")).clip(0)
    expected = convolved(hidden.astype(np.float16).astype(np.float32), constant(network, "last.weight"))
    typed = emitter.strong(plan)
    onnx.checker.check_model(ir.to_proto(typed), full_check=True)
    assert "Conv" not in {node.op_type for node in typed.graph if node.name == "patch"}
    for found in (
        run_plainly(typed, {"input": x}, "ORT_ENABLE_BASIC"),
        RUNTIME.load(emitter.reference(plan)).run({"input": x}),
    ):
        assert deviation(expected, *found.values()) < 2e-3


def test_corrected_biases_and_learned_roundings_go_with_the_product() -> None:
    network, x = embedding((24, 12), (6, 6), bias=False), normal(16, CHANNELS, 24, 12)
    given = network.network(network.samples(x))
    up = np.random.default_rng(0).random((WIDTH, CHANNELS, 6, 6)) > 0.5
    delta = np.linspace(-1, 1, WIDTH, dtype=np.float32)
    emitter = given.emitter(Refinements(roundings={("patch.weight", FP8): up}, corrections={("patch", FP8): delta}))
    plan = network.grouping.uniform(FP8)
    (expected,) = RUNTIME.load(emitter.reference(plan)).run({"input": x}).values()
    (found,) = run_plainly(emitter.strong(plan), {"input": x}, "ORT_ENABLE_BASIC").values()
    (plain,) = RUNTIME.load(given.emitter().reference(plan)).run({"input": x}).values()
    assert deviation(expected, found) < 5e-3 < 0.05 < deviation(expected, plain)


def test_placement_reads_as_a_product_and_lint_finds_nothing_wrong() -> None:
    network = embedding((24, 12), (6, 6))
    emitter = network.network(network.samples(normal(16, CHANNELS, 24, 12))).emitter()
    graph = emitter.strong(network.grouping.uniform(FP8))
    lines = describe_placement(graph.graph).splitlines()
    assert "patch[0] <- input_fp16_patches FLOAT8E4M3FN per tensor scale FLOAT16" in lines
    assert "patch[1] <- patch.weight_fp8_codes FLOAT8E4M3FN axis 1 scale FLOAT16" in lines
    assert [finding for finding in lint_graph(graph) if finding.severity is not Severity.NOTE] == []


@pytest.mark.parametrize(("kernel", "precision"), [((6, 6), INT8), ((4, 4), FP8)])
def test_other_formats_and_smaller_kernels_stay_convolutions(kernel: tuple[int, ...], precision: Precision) -> None:
    network = embedding((24, 12), kernel)
    emitter = network.network(network.samples(normal(16, CHANNELS, 24, 12))).emitter()
    graph = emitter.strong(network.grouping.uniform(precision)).graph
    assert next(node.op_type for node in graph if node.name == "patch") == "Conv"
