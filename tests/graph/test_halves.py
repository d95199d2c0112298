"""Models in half precision are taken as the models they are: widened inside, with the border that the file declares."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from tests.networks import parsed
from tests.prepared import RUNTIME, normal, prepare
from trt_mpq.emit import Emitter
from trt_mpq.errors import ModelError
from trt_mpq.model import prepare_model
from trt_mpq.types import Precision

WEIGHT = normal(16, 16) / 4
"""In what a half type has, it is the same in FP32."""


def model(text: str, **weights: np.ndarray) -> onnx.ModelProto:
    return parsed(f'<ir_version: 8, opset_import: ["":17]> {text}', weights)


KINDS = {
    "all in FP16": (
        "float16[N, 16] x", "float16[N, 16] y",
        "a = MatMul (x, w) b = Relu (a) y = MatMul (b, w)", np.float16),
    "FP16 between casts": (
        "float[N, 16] x", "float[N, 16] y",
        "h = Cast <to = 10> (x) a = MatMul (h, w) b = Relu (a) c = MatMul (b, w) y = Cast <to = 1> (c)", np.float16,
    ),
    "weights in FP16": (
        "float[N, 16] x", "float[N, 16] y",
        "v = Cast <to = 1> (w) a = MatMul (x, v) b = Relu (a) y = MatMul (b, v)", np.float16,
    ),
    "BF16 between casts": (
        "float[N, 16] x", "float[N, 16] y",
        "h = Cast <to = 16> (x) a = MatMul (h, w) b = Relu (a) c = MatMul (b, w) y = Cast <to = 1> (c)",
        ml_dtypes.bfloat16,
    ),
    "a body in FP16": (
        "float16[N, 16] x, bool[1] c", "float16[N, 16] y",
        """a = MatMul (x, w) r = If (c) <then_branch = t () => (float16[] p) { p = Relu (a) },
            else_branch = e () => (float16[] q) { z = Constant <value = float16 {0}> () q = Max (a, z) }>
            y = MatMul (r, w)""", np.float16,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_inside_becomes_fp32_and_the_border_stays(kind: str, tmp_path: Path) -> None:
    inputs, output, body, dtype = KINDS[kind]
    weight = WEIGHT.astype(dtype)
    onnx.save(model(f"g ({inputs}) => ({output}) {{ {body} }}", w=weight), tmp_path / "source.onnx")
    described = prepare_model(tmp_path / "source.onnx", tmp_path / "prepared.onnx")
    border = np.float16 if output.startswith("float16") else np.float32
    assert {spec.dtype for spec in (described.inputs[0], *described.outputs)} == {np.dtype(border).name}
    graph = ir.load(tmp_path / "prepared.onnx")
    assert {value.dtype for value in graph.graph.initializers.values() if value.dtype.is_floating_point()} == {
        ir.DataType.FLOAT
    }
    assert sum(node.op_type == "Cast" for node in graph.graph) == (2 if border is np.float16 else 0)
    x = normal(5, 16).astype(border)
    wide = weight.astype(np.float32)
    expected = np.maximum(x.astype(np.float32) @ wide, 0) @ wide
    feeds = {"x": x, "c": np.array([True])}
    (found,) = RUNTIME.load(graph).run({spec.name: feeds[spec.name] for spec in described.inputs}).values()
    assert found.dtype == border
    np.testing.assert_allclose(
        found.astype(np.float32), expected, rtol=1e-3 if border is np.float16 else 1e-5, atol=1e-3
    )


def test_an_fp16_network_is_delivered_without_casts_at_an_fp16_border() -> None:
    inputs, output, body, dtype = KINDS["all in FP16"]
    network = prepare(model(f"g ({inputs}) => ({output}) {{ {body} }}", w=WEIGHT.astype(dtype)))
    values = normal(8, 16).astype(np.float16)
    emitter = Emitter(network.graph, network.grouping, network.calibrated(network.samples(values)))
    plan = network.grouping.uniform(Precision.INT8)
    typed = emitter.strong(plan)
    assert "Cast" not in [node.op_type for node in typed.graph]
    onnx.checker.check_model(ir.to_proto(typed), full_check=True)
    strong, reference = (RUNTIME.load(graph).run({"x": values})["y"] for graph in (typed, emitter.reference(plan)))
    assert strong.dtype == reference.dtype == np.float16
    np.testing.assert_allclose(strong.astype(np.float32), reference.astype(np.float32), atol=0.02)


def test_a_bf16_border_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.BFLOAT16, ["N", 4]) for name in "xy"]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "source.onnx")
    with pytest.raises(ModelError, match=r"x is an input or output in BF16.*put a Cast"):
        prepare_model(tmp_path / "source.onnx", tmp_path / "prepared.onnx")
