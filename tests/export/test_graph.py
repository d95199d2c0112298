"""Names that people can read, in place of the exporter's."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from trt_mpq.export import DynamicAxis
from trt_mpq.export.graph import tidy
from trt_mpq.graph.interface import Interface
from trt_mpq.types import TensorSpec

TEXT = """
<ir_version: 8, opset_import: ["": 18]>
net (float[s7, s9, 4] x, int64[s3, 5] ids) => (float[s7, s9, 3] out)
<float[4, 3] val_1 = {1,2,3,4,5,6,7,8,9,10,11,12}, float[3] bias = {1,2,3}, float[3, 3] val_2 = {1,2,3,4,5,6,7,8,9},
 float[3] scale = {1,2,3}>
{
  both = Concat<axis = 1>(x, x)
  a = MatMul(both, val_1)
  b = Add(a, bias)
  c = MatMul(b, val_2)
  d = Mul(c, scale)
  out = Softmax<axis = -1>(d)
}
"""
PARAMETERS = {"bias": "module.layers.0.fc.bias", "scale": "module.scale"}
SCOPES = {
    "a": "['', 'module', 'module.layers.0', 'module.layers.0.fc', 'linear']",
    "b": "['', 'module', 'module.layers.0', 'module.layers.0.fc', 'linear']",
    "c": "['', 'module', 'matmul']",
    "d": "['_empty_nn_module_stack_from_metadata_hook', 'mul']",
}
AXES = (
    DynamicAxis("x", 0, "batch"),
    DynamicAxis("ids", 0, "batch"),
    DynamicAxis("x", 1, "length"),
    DynamicAxis("ids", 1, "sequence", required=False),
)


@pytest.fixture
def graph() -> ir.Model:
    model = ir.from_onnx_text(TEXT)
    model.graph.outputs[0].shape = ir.Shape(["s7", "2*s9", 3])
    for name, path in PARAMETERS.items():
        model.graph.initializers[name].name = path
    for node in model.graph:
        node.name = f"node_{node.outputs[0].name}"
        scopes = SCOPES.get(str(node.outputs[0].name))
        if scopes:
            node.metadata_props["pkg.torch.onnx.name_scopes"] = scopes
    return model


def test_free_dimensions_have_names_and_fixed_ones_are_told(graph: ir.Model) -> None:
    assert tidy(graph, AXES) == AXES[:3]
    assert [str(value.shape) for value in graph.graph.inputs] == ["[batch,length,4]", "[batch,5]"]
    assert str(graph.graph.outputs[0].shape) == "[batch,2*length,3]"


def test_nodes_and_weights_are_called_after_layers(graph: ir.Model) -> None:
    tidy(graph, AXES)
    assert [(node.name, [value.name for value in node.inputs if value]) for node in graph.graph] == [
        ("node_both", ["x", "x"]),
        ("layers.0.fc.MatMul", ["both", "layers.0.fc.weight"]),
        ("layers.0.fc.Add", ["a", "layers.0.fc.bias"]),
        ("node_c", ["b", "val_2"]),
        ("node_d", ["c", "scale"]),
        ("node_out", ["d"]),
    ]
    assert not any(node.metadata_props for node in graph.graph)


def test_defaults_are_dropped_and_nothing_else(graph: ir.Model) -> None:
    tidy(graph, AXES)
    assert [list(node.attributes) for node in graph.graph] == [["axis"], [], [], [], [], []]


def test_specs_say_what_the_graph_declares(graph: ir.Model) -> None:
    tidy(graph, AXES)
    assert Interface.of(graph).inputs[1] == TensorSpec("ids", "int64", ("batch", 5))
