"""Rewrites before grouping: the same values, and masks, guards and Transposes in the form the product reads."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx_ir.passes import common as passes

from tests.groups.graphs import from_text
from tests.prepared import RUNTIME
from trt_mpq.groups.normal_form import to_normal_form

LOWEST = float(np.finfo(np.float32).min)
SIGNATURE = "float[N,2,4,8] q, float[N,2,8,4] k, float[N,2,4,8] v, float[N,1,1,4] keep"
CAUSAL = np.where(np.tril(np.ones((4, 4), bool)), np.float32(0), np.float32(-np.inf))
MASKS = {
    "constant": "m = Add(s, causal) p = Softmax(m)",
    "lowest where hidden": "b = Cast<to=9>(keep) m = Where(b, s, lowest) p = Softmax(m)",
    "computed": "b = Cast<to=9>(keep) a = Where(b, zero, infinite) m = Add(a, s) p = Softmax(m)",
    "computed, expanded": """b = Cast<to=9>(keep) i = Expand(infinite, shape) a = Where(b, zero, i) m = Add(s, a)
        p = Softmax(m)""",
    "guarded": """b = Cast<to=9>(keep) a = Where(b, zero, infinite) m = Add(s, a) t = Softmax(m) n = IsNaN(t)
        p = Where(n, zero, t)""",
}
CONSTANTS = {
    "causal": CAUSAL,
    "infinite": np.float32([-np.inf]),
    "lowest": np.float32([LOWEST]),
    "zero": np.float32([0]),
    "shape": np.int64([1, 1, 4, 4]),
}


def attention(middle: str, signature: str = SIGNATURE) -> ir.Model:
    body = f"g ({signature}) => (float[N,2,4,8] y) {{ s = MatMul(q, k) {middle} y = MatMul(p, v) }}"
    graph = from_text(body, {name: value for name, value in CONSTANTS.items() if f"{name}" in middle})
    return ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(graph)))


def rewritten(graph: ir.Model) -> ir.Model:
    changed = graph.clone()
    to_normal_form(changed.graph)
    passes.RemoveUnusedNodesPass()(changed)
    onnx.checker.check_model(ir.to_proto(changed), full_check=True)
    return changed


def feeds() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    values = {
        name: random.standard_normal((3, 2, *shape)).astype(np.float32)
        for name, shape in (("q", (4, 8)), ("k", (8, 4)), ("v", (4, 8)))
    }
    return {**values, "keep": np.float32([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1]]).reshape(3, 1, 1, 4)}


def operators(graph: ir.Model) -> list[str]:
    return [node.op_type for node in graph.graph]


@pytest.mark.parametrize("form", MASKS)
def test_masks_become_finite_and_hide_the_same(form: str) -> None:
    graph = attention(MASKS[form])
    changed = rewritten(graph)
    constants = [value.const_value.numpy() for value in changed.graph.initializers.values()]
    assert all(np.all(values >= -10000) for values in constants)
    given = {name: value for name, value in feeds().items() if name in {v.name for v in graph.graph.inputs}}
    np.testing.assert_array_equal(RUNTIME.load(changed).run(given)["y"], RUNTIME.load(graph).run(given)["y"])


def test_the_guard_behind_a_softmax_goes() -> None:
    changed = rewritten(attention(MASKS["guarded"]))
    assert operators(changed) == ["MatMul", "Cast", "Where", "Add", "Softmax", "MatMul"]


@pytest.mark.parametrize(
    "middle",
    [
        "m = Add(s, fed) t = Softmax(m) n = IsNaN(t) p = Where(n, zero, t)",
        "t = Softmax(s) n = IsNaN(t) c = Cast<to=1>(n) p = Add(t, c)",
        "t = Softmax(s) n = IsNaN(t) p = Where(n, t, zero)",
        "t = Softmax(s) n = IsNaN(t) w = Where(n, zero, t) c = Cast<to=1>(n) p = Add(w, c)",
    ],
    ids=["a mask is fed", "no Where", "branches swapped", "test read elsewhere"],
)
def test_another_guard_stays(middle: str) -> None:
    signature = f"{SIGNATURE}, float[N,1,1,4] fed" if "fed" in middle else SIGNATURE
    assert "IsNaN" in operators(rewritten(attention(middle, signature)))


def test_ordinary_constants_in_front_of_a_softmax_stay() -> None:
    graph = attention("a = Mul(s, zero) p = Softmax(a)")
    assert ir.to_proto(rewritten(graph)) == ir.to_proto(graph)


def test_infinities_elsewhere_stay() -> None:
    graph = from_text("g (float[N,4] x) => (float[N,4] y) { y = Max(x, low) }", {"low": np.float32([-np.inf])})
    assert ir.to_proto(rewritten(graph)) == ir.to_proto(graph)


def test_a_stored_transpose_is_folded_and_its_source_kept_for_others() -> None:
    """What preparation leaves of a large embedding table that is the output projection too."""
    body = """g (int64[N,4] ids) => (float[N,4,6] y) {
        x = Gather(table, ids) turned = Transpose<perm=[1,0]>(table) y = MatMul(x, turned) }"""
    table = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    graph = from_text(body, {"table": table})
    changed = rewritten(graph)
    assert operators(changed) == ["Gather", "MatMul"]
    np.testing.assert_array_equal(changed.graph.initializers["turned"].const_value.numpy(), table.T)
    given = {"ids": np.arange(8).reshape(2, 4) % 6}
    np.testing.assert_array_equal(RUNTIME.load(changed).run(given)["y"], RUNTIME.load(graph).run(given)["y"])


@pytest.mark.parametrize("permutation", ["", "<perm=[2,0,1]>"])
def test_a_transpose_of_any_rank_is_folded(permutation: str) -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    graph = from_text(
        f"g (float[1] x) => (float[a,b,c] y) {{ t = Transpose{permutation}(w) y = Mul(t, x) }}", {"w": values}
    )
    expected = np.transpose(values, (2, 0, 1) if permutation else None)
    np.testing.assert_array_equal(rewritten(graph).graph.initializers["t"].const_value.numpy(), expected)


def test_a_transpose_of_what_is_computed_or_given_out_stays() -> None:
    body = "g (float[4,4] x) => (float[4,4] t, float[4,4] y) { t = Transpose(w) u = Transpose(x) y = Add(t, u) }"
    assert operators(rewritten(from_text(body, {"w": (4, 4)}))) == ["Transpose", "Transpose", "Add"]
