"""Einsum as a matrix product, against numpy.einsum."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from trt_mpq.graph import onnx_api
from trt_mpq.graph.einsum import labels_of, rewrite_einsum
from trt_mpq.numerics import FloatArray
from trt_mpq.runtime.onnxruntime import OnnxRuntime

Shape = tuple[int | str, ...]


def network(equation: str, shapes: list[Shape], constant: FloatArray | None, place: int = 1) -> ir.Model:
    """One Einsum; the operand at `place` is `constant` if there is one."""
    names = ["x", "y", "z"][: len(shapes)]
    held = [] if constant is None else [numpy_helper.from_array(constant, names[place])]
    fed = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for i, (name, shape) in enumerate(zip(names, shapes, strict=True))
        if constant is None or i != place
    ]
    node = helper.make_node("Einsum", names, ["out"], name="einsum", equation=equation)
    result = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "net", fed, [result], held)
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    onnx_api.infer_shapes(model)
    return model


def rewritten(model: ir.Model) -> list[str]:
    (node,) = model.graph
    rewrite_einsum(model.graph, node)
    onnx_api.check(model)
    return [node.op_type for node in model.graph]


@st.composite
def products(draw: st.DrawFn) -> tuple[str, dict[str, int], bool]:
    """Any equation of two operands with rows, columns and sums, sizes of its labels, and whether both are known."""
    kinds = {
        kind: draw(st.integers(least, 2)) for kind, least in (("batch", 0), ("rows", 1), ("columns", 1), ("sums", 1))
    }
    letters = iter("abcdefghijk")
    labels = {kind: "".join(next(letters) for _ in range(count)) for kind, count in kinds.items()}
    left, right, result = (
        "".join(draw(st.permutations("".join(labels[kind] for kind in used))))
        for used in (("batch", "rows", "sums"), ("batch", "columns", "sums"), ("batch", "rows", "columns"))
    )
    sizes = {label: draw(st.integers(1, 4)) for label in "".join(labels.values())}
    return f"{left},{right}->{result}", sizes, draw(st.booleans())


@settings(max_examples=60, deadline=None)
@given(products(), st.sampled_from([None, 0, 1]))
def test_every_matrix_product_is_one(product: tuple[str, dict[str, int], bool], stored: int | None) -> None:
    equation, sizes, known = product
    terms = equation.split("->")[0].split(",")
    random = np.random.default_rng(0)
    arrays = [random.standard_normal([sizes[label] for label in term]).astype(np.float32) for term in terms]
    shapes: list[Shape] = [tuple(sizes[label] if known else label for label in term) for term in terms]
    model = network(equation, shapes, None if stored is None else arrays[stored], stored or 0)
    columns = set(equation.split("->")[1]) - set(terms[0])
    operators = rewritten(model)
    if known or stored is not None or len(columns) == 1:
        assert operators.count("MatMul") == 1
        assert "Einsum" not in operators
    fed = {name: array for i, (name, array) in enumerate(zip("xy", arrays, strict=True)) if i != stored}
    (result,) = OnnxRuntime(threads=1).load(model).run(fed).values()
    np.testing.assert_allclose(result, np.einsum(equation, *arrays, optimize=False), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("...ij,...jk->...ik", [(2, 5, 3, 4), (2, 5, 4, 6)]),
        ("bij,bjk", [(2, 3, 4), (2, 4, 5)]),
        ("...ij,jk", [(2, 5, 3, 4), (4, 6)]),
        ("b i j , b k j -> b i k", [("N", 3, 4), ("N", 5, 4)]),
        ("bhwc,hkc->bhwk", [("N", 3, 5, 4), (3, 6, 4)]),
    ],
)
def test_notation(equation: str, shapes: list[Shape]) -> None:
    model = network(equation, shapes, None)
    assert "Einsum" not in rewritten(model)
    random = np.random.default_rng(1)
    arrays = [random.standard_normal([2 if d == "N" else d for d in shape]).astype(np.float32) for shape in shapes]
    (result,) = OnnxRuntime(threads=1).load(model).run(dict(zip("xy", arrays, strict=True))).values()
    np.testing.assert_allclose(result, np.einsum(equation.replace(" ", ""), *arrays), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("i,j->ij", [(3,), (4,)]),
        ("bi,bi->b", [(2, 3), (2, 3)]),
        ("ii,ij->ij", [(3, 3), (3, 4)]),
        ("bij,bi->b", [(2, 3, 5), (2, 3)]),
        ("ij,jk->ik", [(2, 1), (3, 4)]),
    ],
)
def test_what_is_no_matrix_product_of_two_stays(equation: str, shapes: list[Shape]) -> None:
    assert rewritten(network(equation, shapes, None)) == ["Einsum"]


@pytest.mark.parametrize(
    ("equation", "shapes", "operators"),
    [
        ("ijl,jk->ik", [(2, 3, 5), (3, 4)], ["ReduceSum", "MatMul"]),
        ("bnd,dle->be", [("N", 5, 4), (4, 2, 6)], ["ReduceSum", "ReduceSum", "MatMul"]),
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)], ["MatMul", "MatMul"]),
        ("ij,kl,jk->il", [(2, 3), (4, 5), (3, 4)], ["MatMul", "MatMul"]),
        ("...ij,jk,...lk->...il", [("N", 2, 3), (3, 4), ("N", 5, 4)], ["MatMul", "Transpose", "MatMul"]),
        (
            "bi,oij,bj->bo",
            [(2, 3), (6, 3, 4), (2, 4)],
            ["Transpose", "Reshape", "Transpose", "MatMul", "Reshape", "Einsum"],
        ),
    ],
)
def test_pairs_and_sums_of_one_operand(equation: str, shapes: list[Shape], operators: list[str]) -> None:
    model = network(equation, shapes, None)
    (node,) = model.graph
    rewrite_einsum(model.graph, node)
    onnx_api.check(model)
    assert [node.op_type for node in model.graph] == operators
    assert model.graph.outputs[0].name == "out"
    random = np.random.default_rng(1)
    arrays = [random.standard_normal([2 if d == "N" else d for d in shape]).astype(np.float32) for shape in shapes]
    (result,) = OnnxRuntime(threads=1).load(model).run(dict(zip("xyz", arrays, strict=False))).values()
    np.testing.assert_allclose(result, np.einsum(equation, *arrays), rtol=1e-5, atol=1e-5)


def test_names_stay() -> None:
    model = network("bnhd,hde->bne", [("N", 5, 2, 3), (2, 3, 4)], np.ones((2, 3, 4), np.float32))
    assert rewritten(model) == ["Reshape", "MatMul"]
    product = list(model.graph)[-1]
    assert (product.name, product.outputs[0].name, model.graph.outputs[0].name) == ("einsum", "out", "out")
    assert [tuple(value.shape or ()) for value in model.graph.initializers.values() if value.uses()] == [(3,), (6, 4)]


def test_an_ellipsis_is_spelled_out() -> None:
    (node,) = network("...ij,jk", [(2, 5, 3, 4), (4, 6)], None).graph
    left, right, result = labels_of(node)
    assert (left[2:], right, result[2:]) == ("ij", "jk", "ik")
    assert left[:2] == result[:2]
    assert len(set(left)) == 4
