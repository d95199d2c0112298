"""Axes of one name that the data shows to differ."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from onnx import parser

from trt_mpq.graph.interface import Interface, tell_apart

SHAPES = {
    "equal": ("N,3,S,S", (1, 3, 16, 16), ("N", 3, "S", "S")),
    "unequal": ("N,3,S,S", (1, 3, 16, 24), ("N", 3, "?", "?")),
    "a name for all": ("D,3,D,D", (1, 3, 16, 16), ("?", 3, "?", "?")),
    "the name of the batch, at a size of 1": ("N,3,N,W", (1, 3, 1, 8), ("?", 3, "?", "W")),
}


@pytest.mark.parametrize("case", SHAPES)
def test_axes_of_one_name_and_other_sizes_lose_it(case: str) -> None:
    declared, sample, right = SHAPES[case]
    text = f'<ir_version: 8, opset_import: ["":17]> g (float[{declared}] x) => (float[{declared}] y) {{ y = Relu(x) }}'
    graph = tell_apart(ir.from_proto(parser.parse_model(text)), {"x": sample})
    interface = Interface.of(graph)
    assert [spec.shape for spec in (*interface.inputs, *interface.outputs)] == [right, right]


def test_names_are_told_apart_across_inputs() -> None:
    text = """<ir_version: 8, opset_import: ["":17]> g (float[N,L] x, float[N,L] z, float[N,K] u) => (float[N,L] y) {
        y = Relu(x) }"""
    graph = tell_apart(ir.from_proto(parser.parse_model(text)), {"x": (1, 4), "z": (1, 6), "u": (1, 5)})
    assert [spec.shape for spec in Interface.of(graph).inputs] == [("N", "?"), ("N", "?"), ("N", "K")]
