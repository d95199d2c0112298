"""Products whose columns are Q, K and V side by side, as GPT-2 writes them: the same numbers from three products."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from tests.networks import parsed
from trt_mpq.graph import onnx_api
from trt_mpq.graph.columns import unpack_columns
from trt_mpq.runtime.onnxruntime import OnnxRuntime

PRODUCTS = {
    "MatMul": "y = MatMul (x, w)",
    "MatMul with a bias": "m = MatMul (x, w) y = Add (bias, m)",
    "MatMul with one bias for all": "m = MatMul (x, w) y = Add (m, one)",
    "Gemm": "r = Reshape (x, rows) m = Gemm (r, w, bias) y = Reshape (m, back)",
    "Gemm without bias": "r = Reshape (x, rows) m = Gemm (r, w) y = Reshape (m, back)",
    "Gemm, weight transposed": "r = Reshape (x, rows) m = Gemm<transB = 1> (r, wt, bias) y = Reshape (m, back)",
    "the shape is computed": "s = Shape<start = 0, end = 2> (x) t = Concat<axis = 0> (s, columns) "
    "r = Reshape (x, rows) m = Gemm (r, w, bias) y = Reshape (m, t)",
}
SPLIT = "q, k, v = Split<axis = -1> (y, parts)"
HEADS = " ".join(f"{n}h = Reshape ({n}, heads) {n}t = Transpose<perm = [0, 2, 1, 3]> ({n}h)" for n in "qkv")
READ = "o = Concat<axis = -1> (qt, kt, vt)"


def network(body: str) -> ir.Model:
    text = f'<ir_version: 8, opset_import: ["":17]> n (float[N, 24, 8] x) => (float[A, B, C, D] o) {{ {body} }}'
    random = np.random.default_rng(0)
    weight = random.standard_normal((8, 24)).astype(np.float32)
    constants = {
        "w": weight,
        "wt": np.ascontiguousarray(weight.T),
        "bias": random.standard_normal(24).astype(np.float32),
        "one": np.float32([3]),
        "rows": np.array([-1, 8]),
        "back": np.array([-1, 24, 24]),
        "columns": np.array([24]),
        "parts": np.array([8, 8, 8]),
        "uneven": np.array([4, 8, 12]),
        "two": np.array([12, 12]),
        "heads": np.array([0, 0, 2, -1]),
    }
    proto = parsed(text, constants)
    for node in proto.graph.node:
        node.name = node.output[0]
    model = ir.from_proto(proto)
    onnx_api.infer_shapes(model)
    return model


def unpacked(model: ir.Model) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Operators afterwards, and what the network computes before and after."""
    feeds = {"x": np.random.default_rng(1).standard_normal((2, 24, 8)).astype(np.float32)}
    (before,) = OnnxRuntime(threads=1).load(model).run(feeds).values()
    for node in list(model.graph):
        if node.op_type in ("MatMul", "Gemm"):
            unpack_columns(model.graph, node)
    onnx_api.check(model)
    onnx_api.infer_shapes(model)
    (after,) = OnnxRuntime(threads=1).load(model).run(feeds).values()
    return [node.op_type for node in model.graph], before, after


@pytest.mark.parametrize("form", PRODUCTS)
def test_three_products_compute_what_one_did(form: str) -> None:
    model = network(f"{PRODUCTS[form]} {SPLIT} {HEADS} {READ}")
    operators, before, after = unpacked(model)
    assert operators.count("MatMul") + operators.count("Gemm") == 3
    assert "Split" not in operators
    np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-6)
    products = [node for node in model.graph if node.op_type in ("MatMul", "Gemm")]
    first = products[0].name
    assert [node.name for node in products] == [first, f"{first}.1", f"{first}.2"]
    assert {"q", "k", "v"} <= {value.name for node in model.graph for value in node.outputs}


TURNED = SPLIT.replace("-1", "1").replace("(y", "(z")
SUMMED = READ.replace("o =", "p =") + " s = ReduceSum<keepdims = 0> (y)"
LEFT = {
    "parts of different size": f"{SPLIT.replace('parts', 'uneven')} {HEADS} {READ}",
    "two parts, as a gate has": f"q, k = Split<axis = -1> (y, two) v = Identity (q) {HEADS} {READ}",
    "another axis": f"z = Transpose<perm = [0, 2, 1]> (y) {TURNED} {HEADS} {READ}",
    "no heads": f"{SPLIT} {HEADS.replace('(v, heads)', '(vr, heads)')} {READ}".replace("vh =", "vr = Relu (v) vh ="),
    "the whole is read too": f"{SPLIT} {HEADS} {SUMMED} o = Add (p, s)",
}


@pytest.mark.parametrize("case", LEFT)
def test_what_is_taken_apart_otherwise_stays(case: str) -> None:
    operators, before, after = unpacked(network(f"{PRODUCTS['MatMul']} {LEFT[case]}"))
    assert operators.count("MatMul") == 1
    np.testing.assert_array_equal(after, before)
