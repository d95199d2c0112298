"""Groups of transformers by structure: joined products, attention, spelled-out activations, and what stays out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.groups.graphs import from_text, grouped, nodes_of, prepared, sample_shapes
from trt_mpq.groups import groups_from_model
from trt_mpq.types import Grouping, LayerGroup, Precision, PrecisionPlan

FP16, FP8, INT8, INT4 = Precision.FP16, Precision.FP8, Precision.INT8, Precision.INT4

# Activations behind a product.

SPELLED = {
    "erf, half last": "d = Div(b, r) e = Erf(d) o = Add(e, one) m = Mul(b, o) y = Mul(m, half)",
    "erf, half first": "h = Mul(b, half) d = Mul(b, r) e = Erf(d) o = Add(one, e) y = Mul(h, o)",
    "erf, half in between": "d = Div(b, r) e = Erf(d) o = Add(e, one) h = Mul(half, o) y = Mul(h, b)",
    "tanh": """p = Pow(b, three) s = Mul(p, r) t = Add(b, s) u = Mul(t, r) g = Tanh(u) o = Add(g, one)
        h = Mul(b, half) y = Mul(h, o)""",
    "tanh, cube by Mul": """q = Mul(b, b) p = Mul(b, q) s = Mul(p, r) t = Add(b, s) u = Mul(t, r) g = Tanh(u)
        o = Add(g, one) h = Mul(b, half) y = Mul(h, o)""",
    "quick": "s = Mul(b, r) g = Sigmoid(s) y = Mul(b, g)",
    "swish": "g = Sigmoid(b) y = Mul(g, b)",
}
SCALARS = {name: np.array([value], np.float32) for name, value in [("r", 1.5), ("one", 1), ("half", 0.5), ("three", 3)]}
LINEAR = {"w": (8, 8), "c": (8,), **SCALARS}


@pytest.mark.parametrize("form", SPELLED)
@pytest.mark.parametrize("bias", ["a, c", "c, a"])
def test_spelled_out_activations_are_fused(form: str, bias: str) -> None:
    body = f"g (float[N,7,8] x) => (float[N,7,8] y) {{ a = MatMul(x, w) b = Add({bias}) {SPELLED[form]} }}"
    grouping = grouped(body, LINEAR)
    (group,) = grouping.groups
    assert grouping.loose == ()
    assert (group.nodes[:2], group.nodes[-1], group.output, group.weight.bias) == (("a", "b"), "y", "y", "c")
    assert [site.tensor for site in group.inputs] == ["x"]


PER_CHANNEL = {
    "erf, half last": "d = Div(b, r) e = Erf(d) o = Add(e, one) m = Mul(b, o) y = Mul(m, c)",
    "erf, half first": "h = Mul(b, c) d = Div(b, r) e = Erf(d) o = Add(one, e) y = Mul(h, o)",
    "tanh": """p = Pow(b, three) s = Mul(p, r) t = Add(b, s) u = Mul(t, r) g = Tanh(u) o = Add(g, one)
        h = Mul(c, b) y = Mul(h, o)""",
}


@pytest.mark.parametrize("form", PER_CHANNEL)
def test_the_half_of_gelu_may_be_one_value_per_channel(form: str) -> None:
    body = f"g (float[N,7,8] x) => (float[N,7,8] y) {{ a = MatMul(x, w) b = Add(a, c) {PER_CHANNEL[form]} }}"
    grouping = grouped(body, LINEAR)
    assert grouping.loose == ()
    assert grouping.groups[0].output == "y"


NOT_GATED = {
    "gate read elsewhere": "g = Sigmoid(b) m = Mul(g, b) y = Sub(m, g)",
    "input read elsewhere": "g = Sigmoid(b) m = Mul(g, b) y = Sub(m, b)",
    "gate of a vector": "s = Mul(b, c) g = Sigmoid(s) y = Mul(b, g)",
    "gate of a vector, further on": "s = Mul(b, c) t = Add(s, one) g = Sigmoid(t) y = Mul(g, b)",
    "a sum with a vector": "g = Sigmoid(b) m = Mul(g, b) s = Add(m, c) y = Mul(s, b)",
    "two gates": "g = Sigmoid(b) t = Tanh(b) y = Mul(g, t)",
    "no gate": "s = Mul(b, r) y = Add(s, b)",
    "gate of another tensor": "g = Sigmoid(x) y = Mul(b, g)",
}


@pytest.mark.parametrize("form", NOT_GATED)
def test_what_is_no_activation_of_one_tensor_stays_loose(form: str) -> None:
    body = f"g (float[N,7,8] x) => (float[N,7,8] y) {{ a = MatMul(x, w) b = Add(a, c) {NOT_GATED[form]} }}"
    assert nodes_of(grouped(body, LINEAR)) == [("a", "b")]


def test_a_network_output_inside_an_activation_keeps_it_loose() -> None:
    body = "g (float[N,8] x) => (float[N,8] g, float[N,8] y) { a = MatMul(x, w) g = Sigmoid(a) y = Mul(a, g) }"
    assert nodes_of(grouped(body, LINEAR)) == [("a",)]


def test_a_residual_add_behind_a_product_stays_loose() -> None:
    """TensorRT fuses it with the normalization behind it, in FP16, and its other operand gets no quantizer."""
    body = "g (float[N,7,8] x) => (float[N,7,8] y) { a = MatMul(x, w) b = Add(a, c) y = Add(b, x) }"
    grouping = grouped(body, LINEAR)
    assert nodes_of(grouping) == [("a", "b")]
    assert [op.node for op in grouping.loose] == ["y"]
    assert [site.role for site in grouping.groups[0].inputs] == ["input"]


# Products of one tensor.

THREE = {"q": (8, 8), "k": (8, 8), "v": (8, 16), "c": (8,)}


def test_products_of_one_tensor_are_one_group() -> None:
    body = """g (float[N,7,8] x) => (float[N,7,8] b, float[N,7,8] k2, float[N,7,16] v2) {
        q2 = MatMul(x, q) b = Add(q2, c) k2 = MatMul(x, k) v2 = MatMul(x, v) }"""
    (group,) = grouped(body, THREE).groups
    assert group.nodes == ("q2", "b", "k2", "v2")
    assert [(weight.node, weight.name, weight.bias) for weight in group.weights] == [
        ("q2", "q", "c"),
        ("k2", "k", None),
        ("v2", "v", None),
    ]
    assert group.writes == {"b": 56, "k2": 56, "v2": 112}
    assert (group.flops, group.input_elements) == (2 * 7 * 8 * 32, 56)
    assert group.reads == ("x",)
    assert [(site.tensor, site.node) for site in group.inputs] == [("x", "q2"), ("x", "k2"), ("x", "v2")]


def test_products_of_views_of_one_tensor_are_one_group() -> None:
    body = """g (float[1,7,8] x) => (float[7,8] q2, float[7,8] k2) {
        r = Reshape(x, rows) s = Squeeze(x, first) q2 = Gemm(r, q) k2 = Gemm(s, k) }"""
    (group,) = grouped(body, {**THREE, "rows": np.int64([-1, 8]), "first": np.int64([0])}).groups
    assert (group.nodes, group.input_elements) == (("q2", "k2"), 56)


APART = {
    "another tensor": ("y = Relu(x) a = MatMul(x, q) b = MatMul(y, k)", "none"),
    "another operator": ("a = MatMul(x, q) b = Gemm(x, k)", "none"),
    "other exclusions": ("a = MatMul(x, wide) b = MatMul(x, narrow)", "modelopt"),
}


@pytest.mark.parametrize("case", APART)
def test_what_is_not_joined(case: str) -> None:
    body, exclusions = APART[case]
    weights = {**THREE, "wide": (8, 32), "narrow": (8, 1)}
    weights |= {"wide": (16, 32), "narrow": (16, 1)} if case == "other exclusions" else {}
    size = 16 if case == "other exclusions" else 8
    graph = from_text(f"g (float[N,{size}] x) => (float a, float b) {{ {body} }}", weights)
    grouping = groups_from_model(graph, sample_shapes(graph), exclusions)
    assert nodes_of(grouping) == [("a",), ("b",)]


def test_convolutions_of_one_tensor_stay_apart() -> None:
    body = "g (float[N,4,5,5] x) => (float[N,4,5,5] a, float[N,4,5,5] b) { a = Conv(x, w) b = Conv(x, v) }"
    assert nodes_of(grouped(body, {"w": (4, 4, 1, 1), "v": (4, 4, 1, 1)})) == [("a",), ("b",)]


def test_a_plan_has_one_precision_for_a_joined_group() -> None:
    body = "g (float[N,8] x) => (float[N,8] a, float[N,8] b) { a = MatMul(x, q) b = MatMul(x, k) }"
    assert PrecisionPlan.uniform(grouped(body, THREE).groups, INT8, FP16).assignments == (("a", INT8),)


# Attention.


def attention(middle: str, queries: int = 20, keys: int = 24, head: int = 32, exclusions: str = "none") -> Grouping:
    """Scores s between queries and keys, probabilities p, output y; `middle` leads from s to p."""
    body = f"""g (float[N,2,{queries},{head}] q, float[N,2,{head},{keys}] k, float[N,2,{keys},{head}] v,
        float[N,1,{queries},{keys}] mask, bool[N,1,{queries},{keys}] seen) => (float[N,2,{queries},{head}] y) {{
        s = MatMul(q, k) {middle} y = MatMul(p, v) }}"""
    graph = from_text(body, {"r": np.float32([2]), "low": np.float32([-1e4])})
    return groups_from_model(graph, sample_shapes(graph), exclusions)


MIDDLES = {
    "plain": "p = Softmax<axis=-1>(s)",
    "last axis by number": "p = Softmax<axis=3>(s)",
    "scaled and masked by Add": "t = Div(s, r) m = Add(t, mask) p = Softmax(m)",
    "operands the other way round": "t = Mul(r, s) m = Add(mask, t) p = Softmax(m)",
    "masked by Where": "t = Mul(s, r) m = Where(seen, t, low) p = Softmax(m)",
    "masked by the other branch of Where": "m = Where(seen, low, s) p = Softmax(m)",
}


@pytest.mark.parametrize("form", MIDDLES)
def test_attention_is_one_group_without_a_weight(form: str) -> None:
    grouping = attention(MIDDLES[form])
    (group,) = grouping.groups
    assert (group.id, group.op_type, group.weights) == ("s", "Attention", ())
    assert (group.nodes[0], group.nodes[-1]) == ("s", "y")
    assert not set(group.nodes) & {op.node for op in grouping.loose}
    assert [(site.tensor, site.node, site.index, site.role) for site in group.inputs] == [
        ("q", "s", 0, "query"),
        ("k", "s", 1, "key"),
        ("p", "y", 0, "probabilities"),
        ("v", "y", 1, "value"),
    ]
    assert group.reads == ("q", "k", "v")
    assert group.writes == {"y": 2 * 20 * 32}
    assert group.input_elements == 2 * 32 * (20 + 24 + 24)
    assert group.flops == 2 * (2 * 2 * 20 * 24 * 32)
    assert group.excluded == {}


NO_ATTENTION = {
    "no softmax": "p = Relu(s)",
    "softmax over the queries": "p = Softmax<axis=2>(s)",
    "scores read twice": "t = Softmax(s) p = Add(t, s)",
    "divided by the scores": "t = Div(r, s) p = Softmax(t)",
    "broadcast to more scores": "m = Add(s, more) p = Softmax(m)",
    "something behind the softmax": "t = Softmax(s) p = Mul(t, r)",
    "another function": "t = Tanh(s) p = Softmax(t)",
}


@pytest.mark.parametrize("form", NO_ATTENTION)
def test_products_that_no_kernel_fuses_are_two_groups(form: str) -> None:
    if "more" in NO_ATTENTION[form]:
        body = """g (float[1,2,4,8] q, float[1,2,8,4] k, float[3,2,4,8] v, float[3,1,4,4] more) => (float y) {
            s = MatMul(q, k) m = Add(s, more) p = Softmax(m) y = MatMul(p, v) }"""
        graph = from_text(body, {})
        grouping = groups_from_model(graph, sample_shapes(graph), "none")
    else:
        grouping = attention(NO_ATTENTION[form])
    assert nodes_of(grouping) == [("s",), ("y",)]
    assert [[(site.tensor, site.index, site.role) for site in group.inputs] for group in grouping.groups] == [
        [("q", 0, "left"), ("k", 1, "right")],
        [("p", 0, "left"), ("v", 1, "right")],
    ]
    assert {op.reason for op in grouping.loose} == {None}


def test_softmax_as_second_operand_is_no_attention() -> None:
    body = """g (float[N,4,8] q, float[N,8,4] k, float[N,8,4] v) => (float[N,8,4] y) {
        s = MatMul(q, k) p = Softmax(s) y = MatMul(v, p) }"""
    assert nodes_of(grouped(body, {})) == [("s",), ("y",)]


VIEWED = {
    "heads in one axis, apart for the mask": (
        "v = Reshape(s, apart) m = Add(v, mask) t = Softmax(m) p = Reshape(t, together)", True
    ),
    "two views before the softmax": (
        "a = Reshape(s, apart) m = Add(a, mask) c = Reshape(m, together) p = Softmax(c)", True
    ),
    "an axis of 1": ("v = Unsqueeze(s, first) t = Softmax(v) p = Squeeze(t, first)", True),
    "keys in rows and columns": (
        "v = Reshape(s, grid) m = Add(v, rows) c = Reshape(m, together) p = Softmax(c)", False
    ),
    "softmax of a grid": ("v = Reshape(s, grid) t = Softmax(v) p = Reshape(t, together)", False),
}  # fmt: skip


@pytest.mark.parametrize("form", VIEWED)
def test_attention_with_views_between(form: str) -> None:
    middle, fused = VIEWED[form]
    body = f"""g (float[8,20,32] q, float[8,32,24] k, float[8,24,32] w, float[2,1,1,24] mask, float[8,20,6,1] rows)
        => (float[8,20,32] y) {{ s = MatMul(q, k) {middle} y = MatMul(p, w) }}"""
    shapes = {"apart": [2, 4, 20, 24], "together": [8, 20, 24], "grid": [8, 20, 6, 4], "first": [0]}
    graph = from_text(body, {name: np.int64(shape) for name, shape in shapes.items()})
    groups = groups_from_model(graph, {}, "none").groups
    assert [group.op_type for group in groups] == (["Attention"] if fused else ["MatMul", "MatMul"])
    if fused:
        assert [(site.tensor, site.node) for site in groups[0].inputs] == [
            ("q", "s"),
            ("k", "s"),
            ("p", "y"),
            ("w", "y"),
        ]


@pytest.mark.parametrize(
    ("key", "value", "kinds"),
    [(32, 32, ["Attention"]), (16, 32, ["MatMul"] * 2), (8, 8, ["MatMul"] * 2), (257, 257, ["MatMul"] * 2)],
)
def test_heads_that_no_kernel_fuses(key: int, value: int, kinds: list[str]) -> None:
    body = f"""g (float[1,20,{key}] q, float[1,{key},24] k, float[1,24,{value}] v) => (float y) {{
        s = MatMul(q, k) p = Softmax(s) y = MatMul(p, v) }}"""
    assert [group.op_type for group in grouped(body, {}).groups] == kinds


@pytest.mark.parametrize(
    ("left", "right", "reason"),
    [
        ("5,32,16", "5,16,16", None),
        ("5,1,16", "5,16,16", "matrix times vector, bound by memory"),
        ("5,32,16", "5,16,1", "matrix times vector, bound by memory"),
        ("5,32,15", "5,15,16", "K = 15 is below 16"),
        ("5,32,16", "5,16,15", "N = 15 is below 16"),
    ],
)
def test_limits_of_other_products(left: str, right: str, reason: str | None) -> None:
    graph = from_text(f"g (float[{left}] x, float[{right}] z) => (float y) {{ y = MatMul(x, z) }}", {})
    (group,) = groups_from_model(graph, {}).groups
    assert excluded(group) == (dict.fromkeys((FP8, INT8, INT4), reason) if reason else {})
    assert group.flops == 2 * int(np.prod([int(size) for size in left.split(",")])) * int(right.split(",")[-1])
    (compiled,) = groups_from_model(graph, {}, capability=89).groups
    assert excluded(compiled) == (excluded(group) if reason and "vector" in reason else {})


def excluded(group: LayerGroup) -> dict[Precision, str]:
    return dict(group.excluded)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"queries": 512, "keys": 512}, {}),
        ({"queries": 513, "keys": 16}, dict.fromkeys((INT8, INT4), "sequence length 513 is above 512")),
        ({"queries": 16, "keys": 600}, dict.fromkeys((INT8, INT4), "sequence length 600 is above 512")),
        ({"head": 256}, {}),
        ({"head": 12}, dict.fromkeys((FP8, INT8, INT4), "head size 12 is below 16")),
        ({"keys": 15}, dict.fromkeys((FP8, INT8, INT4), "sequence length 15 is below 16")),
        (
            {"queries": 1},
            dict.fromkeys((FP8, INT8, INT4), "1 queries and 24 keys: matrix times vector, bound by memory"),
        ),
    ],
)
def test_limits_of_attention(sizes: dict[str, int], expected: dict[Precision, str]) -> None:
    (group,) = attention(MIDDLES["plain"], **sizes, exclusions="modelopt").groups
    assert excluded(group) == expected
    assert excluded(attention(MIDDLES["plain"], **sizes).groups[0]) == {}


@pytest.mark.parametrize(
    "apart",
    [
        "q, k, v = Split<axis=0, num_outputs=3>(u)",
        "q = Gather<axis=0>(u, zero) k = Gather<axis=0>(u, one) v = Gather<axis=0>(u, two)",
        "q = Slice(u, zero, one, zero) k = Slice(u, one, two, zero) v = Slice(u, two, three, zero)",
    ],
)
def test_query_key_and_value_cut_out_of_one_tensor_have_scales_of_their_own(apart: str) -> None:
    body = f"""g (float[N,3,4,16,16] x) => (float y) {{ t = Transpose<perm=[1,0,2,3,4]>(x) u = Relu(t) {apart}
        s = MatMul(q, k) p = Softmax(s) y = MatMul(p, v) }}"""
    indices = {name: np.int64([i]) for i, name in enumerate(("zero", "one", "two", "three"))}
    grouping = grouped(body, indices, opset=18)
    assert [group.op_type for group in grouping.groups] == ["Attention"]
    assert grouping.shared_scales == ()


# Embeddings.


def test_embeddings_stay_out_with_the_reason_and_share_their_table() -> None:
    body = """g (int64[N,4] ids) => (float[N,4,16] y) { x = Gather(table, ids) y = Gemm<transB=1>(rows, table)
        }""".replace("y = Gemm", "rows = Reshape(x, shape) y = Gemm")
    grouping = grouped(body, {"table": (32, 8), "shape": np.int64([-1, 8])})
    (group,) = grouping.groups
    assert (group.weight.name, group.weight.axis) == ("table", 0)
    look_up = grouping.loose[0]
    assert (look_up.node, look_up.reason) == (
        "x",
        "a table look-up: it computes nothing, and 8-bit rows would be widened again at once",
    )


LEFT_OUT = {
    "a = MatMul(vector, x)": "its weight vector is a vector: a product with it is bound by memory",
    "a = MatMul(x, vector)": "its weight vector is a vector: a product with it is bound by memory",
}


@pytest.mark.parametrize("call", LEFT_OUT)
def test_products_that_are_no_anchor_say_why(call: str) -> None:
    grouping = grouped(f"g (float[4,4] x) => (float y) {{ {call} y = Relu(a) }}", {"w": (4, 4), "vector": (4,)})
    assert [op.reason for op in grouping.loose] == [LEFT_OUT[call], None]


@pytest.mark.data
def test_every_product_of_minilm_is_in_a_group(data_dir: Path, tmp_path: Path) -> None:
    graph = prepared(data_dir / "minilm" / "minilm_l6_v2.onnx", tmp_path)
    grouping = groups_from_model(graph, sample_shapes(graph))
    kinds = [group.op_type for group in grouping.groups]
    assert kinds == ["MatMul", "Attention", "MatMul", "MatMul", "MatMul"] * 6
    assert [len(group.weights) for group in grouping.groups] == [3, 0, 1, 1, 1] * 6
    assert all(group.excluded == {} for group in grouping.groups)
    assert "MatMul" not in {op.op_type for op in grouping.loose}
    assert sum(group.flops for group in grouping.groups) == 6 * (
        2 * 64 * 384 * (4 * 384 + 2 * 1536) + 4 * 64 * 64 * 384
    )
