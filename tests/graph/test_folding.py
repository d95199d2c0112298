"""Operators of several outputs fold too, against ONNX Runtime on the graph as it was."""

from __future__ import annotations

import tracemalloc

import numpy as np
import onnx_ir as ir
import pytest

from tests.networks import parsed
from trt_mpq.graph.folding import fold
from trt_mpq.runtime.onnxruntime import OnnxRuntime

BODIES = {
    "a projection in three, turned": "a, b, c = Split <axis = 0> (w, parts)  t = Transpose (b)  y = MatMul (x, t)",
    "equal parts, cut further": "a, b = Split <axis = 1> (w)  c, d = Split <axis = 1> (b)  y = MatMul (x, d)",
    "only a part is read": "values, indices = TopK <axis = 0> (w, three)  t = Transpose (values)  y = MatMul (x, t)",
}


def network(body: str) -> ir.Model:
    text = f'<ir_version: 8, opset_import: ["":17]> n (float[N, 12] x) => (float[N, M] y) {{ {body} }}'
    weight = np.random.default_rng(0).standard_normal((12, 12)).astype(np.float32)
    constants = {"w": weight, "parts": np.array([3, 4, 5]), "three": np.array([3])}
    return ir.from_proto(parsed(text, constants))


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_several_outputs_fold(body: str) -> None:
    model = network(body)
    feeds = {"x": np.random.default_rng(1).standard_normal((2, 12)).astype(np.float32)}
    expected = OnnxRuntime(threads=1).load(model).run(feeds)["y"]
    fold(model)
    assert [node.op_type for node in model.graph] == ["MatMul"]
    np.testing.assert_array_equal(OnnxRuntime(threads=1).load(model).run(feeds)["y"], expected)


def test_what_the_user_reads_stays() -> None:
    model = network("y, b, c = Split <axis = 0> (w, parts)")
    fold(model)
    assert [node.op_type for node in model.graph] == ["Split"]


def test_a_computed_tensor_is_not_folded() -> None:
    model = network("a, b = Split <axis = 1> (x)  t = Concat <axis = 1> (b, a)  y = MatMul (t, w)")
    fold(model)
    assert [node.op_type for node in model.graph] == ["Split", "Concat", "MatMul"]


LARGE = 1 << 27
"""Elements that would take 512 MiB."""
GROWING = {
    "Expand": ("c = Expand (one, large)", {"one": np.ones(1, np.float32), "large": np.array([LARGE])}),
    "Tile": ("c = Tile (one, large)", {"one": np.ones(1, np.float32), "large": np.array([LARGE])}),
    "Pad": ("c = Pad (one, pads)", {"one": np.ones(1, np.float32), "pads": np.array([0, LARGE])}),
    "Range": ("i = Range (start, stop, step) c = Cast <to = 1> (i)", {
        "start": np.array(0), "stop": np.array(LARGE), "step": np.array(1)}),
    "outer product": ("c = MatMul (column, row)", {
        "column": np.ones((1 << 14, 1), np.float32), "row": np.ones((1, 1 << 13), np.float32)}),
    "broadcast": ("c = Add (column, row)", {
        "column": np.ones((1 << 14, 1), np.float32), "row": np.ones((1, 1 << 13), np.float32)}),
    "Gather": ("c = Gather (row, zeros)", {
        "row": np.ones((2, 1 << 13), np.float32), "zeros": np.zeros(1 << 14, np.int64)}),
    "a size that was computed": ("s = Mul (side, side) c = Expand (one, s)", {
        "one": np.ones(1, np.float32), "side": np.array([1 << 14])}),
}  # fmt: skip


@pytest.mark.parametrize("case", GROWING.values(), ids=GROWING)
def test_what_would_grow_beyond_measure_is_not_computed(case: tuple[str, dict[str, np.ndarray]]) -> None:
    body, constants = case
    read = f"{body} m = ReduceMax <keepdims = 0> (c) y = Add (x, m)"
    text = f'<ir_version: 8, opset_import: ["":17]> n (float[1] x) => (float[1] y) {{ {read} }}'
    model = ir.from_proto(parsed(text, constants))
    tracemalloc.start()
    fold(model)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [node.op_type for node in model.graph][-2:] == ["ReduceMax", "Add"]
    assert peak < LARGE
