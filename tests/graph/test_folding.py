"""Operators of several outputs fold too, against ONNX Runtime on the graph as it was."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from trt_mpq.graph.folding import fold
from trt_mpq.runtime.onnxruntime import OnnxRuntime

BODIES = {
    "a projection in three, turned": "a, b, c = Split <axis = 0> (w, parts)  t = Transpose (b)  y = MatMul (x, t)",
    "equal parts, cut further": "a, b = Split <axis = 1> (w)  c, d = Split <axis = 1> (b)  y = MatMul (x, d)",
    "only a part is read": "values, indices = TopK <axis = 0> (w, three)  t = Transpose (values)  y = MatMul (x, t)",
}


def network(body: str) -> ir.Model:
    text = f'<ir_version: 8, opset_import: ["":17]> n (float[N, 12] x) => (float[N, M] y) {{ {body} }}'
    proto = parser.parse_model(text)
    weight = np.random.default_rng(0).standard_normal((12, 12)).astype(np.float32)
    constants = {"w": weight, "parts": np.array([3, 4, 5]), "three": np.array([3])}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return ir.from_proto(proto)


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
