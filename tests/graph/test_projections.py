"""Products that compute Q, K and V side by side, taken apart: the same numbers from three products."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from tests.networks import parsed
from trt_mpq.graph import onnx_api
from trt_mpq.graph.projections import unpack_projection
from trt_mpq.runtime.onnxruntime import OnnxRuntime

SPLIT = "a, b, c = Split<axis = {axis}> (t, ones)  q = Squeeze (a, at)  k = Squeeze (b, at)  v = Squeeze (c, at)"
GATHER = "q = Gather<axis = {axis}> (t, i0)  k = Gather<axis = {axis}> (t, i1)  v = Gather<axis = {axis}> (t, i2)"
SLICE = """a = Slice (t, n0, n1, at)  b = Slice (t, n1, n2, at)  c = Slice (t, n2, n3, at)
    q = Squeeze (a, at)  k = Squeeze (b, at)  v = Squeeze (c, at)"""
TIMM = "r = Reshape (y, three_first)  t = Transpose<perm = [2, 0, 3, 1, 4]> (r)"
BLOOM = "t = Reshape (y, heads_first)"
FORMS = {
    "timm, split": (TIMM, SPLIT, 0),
    "timm, gathered": (TIMM, GATHER, 0),
    "timm, sliced": (TIMM, SLICE, 0),
    "one head after the other": (BLOOM, GATHER, 3),
    "one head after the other, sliced": (BLOOM, SLICE, 3),
}
READ = "o = Concat<axis = -1> (q, k, v)"


def network(body: str, axis: int, bias: bool = True) -> ir.Model:
    add = "y = Add (m, bias)" if bias else "y = Mul (m, unit)"
    text = '<ir_version: 8, opset_import: ["":17]> n (float[N, 5, 8] x) => (float[A, B, C, D] o)' + (
        f"{{ m = MatMul (x, w)  {add}  {body}  {READ} }}"
    )
    random = np.random.default_rng(0)
    constants = {
        "w": random.standard_normal((8, 24)).astype(np.float32),
        "bias": random.standard_normal(24).astype(np.float32),
        "unit": np.ones(24, np.float32),
        "three_first": np.array([0, 0, 3, 2, 4]),
        "heads_first": np.array([0, 0, 2, 3, 4]),
        "ones": np.ones(3, np.int64),
        "at": np.array([axis]),
        **{f"i{number}": np.array(number) for number in range(3)},
        **{f"n{number}": np.array([number]) for number in range(4)},
    }
    proto = parsed(text, constants)
    for node in proto.graph.node:
        node.name = node.output[0]
    model = ir.from_proto(proto)
    onnx_api.infer_shapes(model)
    return model


def unpacked(model: ir.Model) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Operators afterwards, and what the network computes before and after."""
    feeds = {"x": np.random.default_rng(1).standard_normal((2, 5, 8)).astype(np.float32)}
    (before,) = OnnxRuntime(threads=1).load(model).run(feeds).values()
    for node in list(model.graph):
        if node.op_type == "MatMul":
            unpack_projection(model.graph, node)
    onnx_api.check(model)
    (after,) = OnnxRuntime(threads=1).load(model).run(feeds).values()
    return [node.op_type for node in model.graph], before, after


@pytest.mark.parametrize("form", FORMS)
def test_three_products_compute_what_one_did(form: str) -> None:
    view, apart, axis = FORMS[form]
    model = network(f"{view} {apart.format(axis=axis)}", axis)
    operators, before, after = unpacked(model)
    assert operators.count("MatMul") == operators.count("Add") == operators.count("Reshape") == 3
    assert not {"Split", "Gather", "Slice", "Squeeze"} & set(operators)
    np.testing.assert_array_equal(after, before)
    assert [node.name for node in model.graph if node.op_type == "MatMul"] == ["m", "m.1", "m.2"]
    assert {"q", "k", "v"} <= {value.name for node in model.graph for value in node.outputs}


LEFT = {
    "one part is not read": GATHER.format(axis=0).replace("i2", "i0"),
    "the whole is read too": GATHER.format(axis=0).replace("Gather<axis = 0> (t, i2)", "ReduceSum<keepdims=0> (t, at)"),
    "heads are taken apart": "q = Gather<axis=2> (t, i0)  k = Gather<axis=2> (t, i1)  v = Gather<axis=2> (t, i0)",
}  # fmt: skip


@pytest.mark.parametrize("case", LEFT)
def test_what_is_not_taken_apart_completely_stays(case: str) -> None:
    operators, before, after = unpacked(network(f"{TIMM} {LEFT[case]}", 0))
    assert operators.count("MatMul") == 1
    np.testing.assert_array_equal(after, before)


def test_a_view_of_something_else_stays() -> None:
    operators, _, _ = unpacked(network(f"{TIMM} {SPLIT.format(axis=0)}", 0, bias=False))
    assert operators.count("MatMul") == 1
