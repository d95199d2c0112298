"""Shapes that inference cannot tell, against those of the tensors that ONNX Runtime gives."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from tests.networks import parsed
from tests.prepared import RUNTIME, prepare
from trt_mpq.calibrate.shapes import observed_shapes
from trt_mpq.dataset import samples_from_arrays
from trt_mpq.graph.interface import Interface
from trt_mpq.groups.shapes import bind_shapes, unknown_shapes
from trt_mpq.runtime.base import with_outputs

ROWS = {"zero": np.array([0]), "one": np.array([1]), "two": np.array([2]), "minus": np.array([-1, -1])}
SCALARS = {"start": np.float32(0), "step": np.float32(1)}
CONSTANTS = {name: np.asarray(value) for name, value in {**ROWS, **SCALARS}.items()} | {
    "w": np.ones((4, 4), np.float32),
    "token": np.ones((1, 1, 4), np.float32),
}

STEERED = {
    "a token repeated for every row": """
        s = Shape(x) n = Gather(s, zero) size = Concat<axis=0>(n, minus)
        ones = ConstantOfShape<value: tensor = int64[1] {1}>(k)
        wanted = Equal(size, minus3) full = Where(wanted, ones, size) many = Expand(token, full)
        y = Concat<axis=1>(many, x)""",
    "positions from the length": """
        s = Shape(x) n = Gather(s, one) f = Cast<to=1>(n) end = Squeeze(f) r = Range(start, end, step)
        row = Unsqueeze(r, one) p = Cos(row) y = Mul(x, p)""",
    "a slice as long as the input": "s = Shape(x) n = Gather(s, one) t = Slice(x, zero, n, one) y = MatMul(t, w)",
}


def graph_of(body: str, gives: str = "float[a,b,c]") -> ir.Model:
    text = f'<ir_version: 8, opset_import: ["":17]> g (float[N,L,4] x) => ({gives} y) {{ {body} }}'
    constants = CONSTANTS | {"k": np.array([3]), "minus3": np.array([-1, -1, -1])}
    return ir.from_proto(parsed(text, constants))


@pytest.mark.parametrize("case", STEERED)
def test_shapes_that_sizes_steer_are_observed(case: str) -> None:
    graph = graph_of(STEERED[case])
    values = np.random.default_rng(0).standard_normal((3, 4, 4)).astype(np.float32)
    samples = samples_from_arrays({"x": values}, Interface.of(graph).inputs)
    unknown = unknown_shapes(bind_shapes(graph, {"x": (1, 4, 4)}))
    assert unknown
    observed = observed_shapes(graph, unknown, samples, RUNTIME)
    computed = RUNTIME.load(with_outputs(graph, list(unknown))).run({"x": values[:1]})
    assert observed == {name: computed[name].shape for name in unknown}
    assert unknown_shapes(bind_shapes(graph, {"x": (1, 4, 4), **observed})) == ()


def test_of_a_size_that_depends_on_the_data_the_larger_counts() -> None:
    graph = graph_of("y = NonZero(x)", "int64[r,n]")
    few, many = np.zeros((1, 2, 4), np.float32), np.ones((1, 2, 4), np.float32)
    inputs = Interface.of(graph).inputs
    for values in ((few, many), (many, few), (few, many, many)):
        samples = samples_from_arrays({"x": np.concatenate(values)}, inputs)
        assert observed_shapes(graph, ["y"], samples, RUNTIME) == {"y": (3, 8)}


def test_a_batch_that_the_model_fixes_is_filled() -> None:
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["":17]> g (float[4,6] x) => (int64[r,n] y) { y = NonZero(x) }'
    )
    graph = ir.from_proto(proto)
    samples = samples_from_arrays({"x": np.ones((2, 6), np.float32)}, Interface.of(graph).inputs)
    assert observed_shapes(graph, ["y"], samples, RUNTIME) == {"y": (2, 24)}


def test_pads_that_are_computed_of_constants_are_constants() -> None:
    """As torch's exporter writes F.pad: zeros for the leading axes, made by ConstantOfShape."""
    proto = parser.parse_model(
        """<ir_version: 8, opset_import: ["":17]> g (float[N,3,8,8] x) => (float[N,4,8,8] y) <
        int64[1] four = {4}, int64[4] own = {1, 1, 1, 1}, int64[2] pairs = {-1, 2}, int64[1] flat = {-1},
        int64[1] first = {-1}, int64[1] last = {-9223372036854775807}, int64[1] axis = {0}, int64[1] back = {-1} > {
            zeros = ConstantOfShape<value = int64[1] {0}>(four) all = Concat<axis=0>(own, zeros)
            rows = Reshape(all, pairs)
            turned = Slice(rows, first, last, axis, back) columns = Transpose<perm=[1, 0]>(turned)
            pads = Reshape(columns, flat) padded = Pad<mode="reflect">(x, pads) y = Conv(padded, w) }"""
    )
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    assert [node.op_type for node in prepare(proto).graph.graph] == ["Pad", "Conv"]
