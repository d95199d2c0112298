"""Every file that is made of a model has its inputs and outputs: names, order, types, shapes, and what they hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, parser

from tests.prepared import Prepared, prepare
from trt_mpq.dataset import samples_from_arrays
from trt_mpq.emit.deliver import deliver
from trt_mpq.graph.interface import InterfaceError
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.types import Precision, PrecisionPlan

WIDTH = 16

OUTPUTS = {
    "one tensor under two names": (
        "(float[N,16] x)",
        "(float[N,16] y, float[N,16] z)",
        "a = Gemm(x,w) y = Identity(a) z = Identity(a)",
    ),
    "a copy of an output": ("(float[N,16] x)", "(float[N,16] y, float[N,16] z)", "y = Gemm(x,w) z = Identity(y)"),
    "a copy of a copy": (
        "(float[N,16] x)",
        "(float[N,16] y, float[N,16] z)",
        "a = Gemm(x,w) b = Identity(a) y = Identity(b) z = Identity(y)",
    ),
    "a copy of the input": ("(float[N,16] x)", "(float[N,16] y, float[N,16] z)", "y = Gemm(x,w) z = Identity(x)"),
    "the input itself": ("(float[N,16] x)", "(float[N,16] y, float[N,16] x)", "y = Gemm(x,w)"),
    "a weight": ("(float[N,16] x)", "(float[N,16] y, float[16,16] w)", "y = Gemm(x,w)"),
    "a copy of a weight": ("(float[N,16] x)", "(float[N,16] y, float[16,16] z)", "y = Gemm(x,w) z = Identity(w)"),
    "a constant": (
        "(float[N,16] x)",
        "(float[N,16] y, float[2] z)",
        "y = Gemm(x,w) z = Constant<value_floats=[1.0, 2.0]>()",
    ),
    "a transposed weight": ("(float[N,16] x)", "(float[N,16] y, float[16,16] z)", "y = Gemm(x,w) z = Transpose(w)"),
    "one that is read too": (
        "(float[N,16] x)",
        "(float[N,16] y, float[N,16] z)",
        "y = Gemm(x,w) r = Relu(y) z = Gemm(r,w)",
    ),
    "the same twice": ("(float[N,16] x)", "(float[N,16] y, float[N,16] y)", "y = Gemm(x,w)"),
    "the same twice behind Dropout": (
        "(float[N,16] x)",
        "(float[N,16] y, float[N,16] y)",
        "a = Gemm(x,w) y = Dropout(a)",
    ),
    "the same twice behind a Cast": (
        "(float[N,16] x)",
        "(float[N,16] y, float[N,16] z, float[N,16] y)",
        "z = Gemm(x,w) y = Cast<to=1>(z)",
    ),
    "before and behind BatchNorm": (
        "(float[N,16] x)",
        "(float[N,16] y, float[N,16] z)",
        "y = Gemm(x,w) z = BatchNormalization(y,s,s,s,s)",
    ),
    "a guarded softmax": (
        "(float[N,16] x)",
        "(float[N,16] y)",
        "a = Gemm(x,w) p = Softmax(a) n = IsNaN(p) y = Where(n,k,p)",
    ),
    "integers": ("(float[N,16] x)", "(float[N,16] y, int64[N] z)", "y = Gemm(x,w) z = ArgMax<axis=1, keepdims=0>(y)"),
    "a shape": ("(float[N,16] x)", "(float[N,16] y, int64[2] z)", "y = Gemm(x,w) z = Shape(y)"),
    "a part of a shape that is fixed": (
        "(float[N,16] x)",
        "(float[N,16] y, int64[1] z)",
        "y = Gemm(x,w) z = Shape<start=1>(y)",
    ),
    "in another order": ("(float[N,16] x)", "(float[N,16] z, float[N,16] y)", "y = Gemm(x,w) z = Relu(y)"),
    "an input that nobody reads": ("(float[N,4] u, float[N,16] x)", "(float[N,16] y)", "y = Gemm(x,w)"),
    "no name for the batch": ("(float[?,16] x)", "(float[?,16] y)", "y = Gemm(x,w)"),
    "a fixed batch": ("(float[2,16] x)", "(float[2,16] y)", "y = Gemm(x,w)"),
}
"""What is fed, what comes out, and how it is computed."""


def model(inputs: str, outputs: str, body: str) -> onnx.ModelProto:
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["":17]> g {inputs} => {outputs} {{ {body} }}')
    random = np.random.default_rng(0)
    constants = {"w": (WIDTH, WIDTH), "s": (WIDTH,), "k": ()}
    read = {name for node in proto.graph.node for name in node.input} | {v.name for v in proto.graph.output}
    proto.graph.initializer.extend(
        numpy_helper.from_array(random.uniform(0.5, 1.0, shape).astype(np.float32), name)
        for name, shape in constants.items()
        if name in read
    )
    return proto


def interface(proto: onnx.ModelProto) -> list[list[tuple[str, int, list[int | str]]]]:
    """Name, type and sizes of what is fed and of what comes out, in order."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    return [
        [
            (v.name, v.type.tensor_type.elem_type, [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim])
            for v in values
            if values is proto.graph.output or v.name not in constants
        ]
        for values in (proto.graph.input, proto.graph.output)
    ]


def feeds(network: Prepared, count: int = 4) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    return {i.name: random.standard_normal((count, *i.shape[1:])).astype(np.float32) for i in network.model.inputs}


def delivered(proto: onnx.ModelProto, precision: Precision, folder: Path) -> None:
    """Write every flavour of `proto`, and hold each to it."""
    network = prepare(proto)
    values = feeds(network)
    emitter = network.network(samples_from_arrays(values, network.model.inputs)).emitter()
    deliver(emitter, PrecisionPlan.uniform(network.grouping.groups, precision), folder)
    fixed = {name: array[:2] for name, array in values.items()}
    expected = OnnxRuntime(1).load(ir.from_proto(proto)).run(fixed)
    files = [folder / f"{flavour}.onnx" for flavour in ("reference", "typed", "weak")]
    for file in files if precision is Precision.INT8 else files[:2]:
        assert interface(onnx.load(file)) == interface(proto)
        onnx.checker.check_model(file, full_check=True)
        session = OnnxRuntime(1).load(file)
        assert list(session.output_names) == [v.name for v in proto.graph.output]
        for name, found in session.run(fixed).items():
            scale = max(1.0, float(np.abs(expected[name]).max()))
            if found.dtype == np.float32:
                np.testing.assert_allclose(found, expected[name], atol=0.1 * scale)


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP8])
@pytest.mark.parametrize("case", OUTPUTS)
def test_interfaces_are_kept(case: str, precision: Precision, tmp_path: Path) -> None:
    delivered(model(*OUTPUTS[case]), precision, tmp_path)


@st.composite
def tangled(draw: st.DrawFn) -> onnx.ModelProto:
    """A chain of layers and copies, any of whose tensors, constants and the input may be outputs."""
    nodes, tensors = [helper.make_node("Gemm", ["x", "w"], ["t0"])], ["x", "t0"]
    for number in range(1, draw(st.integers(2, 6))):
        source = draw(st.sampled_from(tensors))
        op_type = draw(st.sampled_from(["Identity", "Identity", "Relu", "Dropout", "Gemm", "BatchNormalization"]))
        constants = {"Gemm": ["w"], "BatchNormalization": ["s"] * 4}.get(op_type, [])
        nodes.append(helper.make_node(op_type, [source, *constants], [f"t{number}"]))
        tensors.append(f"t{number}")
    outputs = draw(st.lists(st.sampled_from([*tensors, "w"]), min_size=1, max_size=4, unique=True))
    shapes = {"w": [WIDTH, WIDTH]}
    described = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shapes.get(n, ["N", WIDTH])) for n in outputs]
    weights = np.random.default_rng(0).uniform(-0.3, 0.3, (WIDTH, WIDTH)).astype(np.float32)
    constants = {"w": weights, "s": np.linspace(0.5, 1, WIDTH, dtype=np.float32)}
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", WIDTH])], described,
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    proto.ir_version = 8
    return proto


@given(proto=tangled())
@settings(max_examples=15, deadline=None)
def test_interfaces_of_any_wiring_are_kept(proto: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory) -> None:
    delivered(proto, Precision.INT8, tmp_path_factory.mktemp("wiring"))


def test_a_file_that_would_lose_an_output_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = prepare(model(*OUTPUTS["integers"]))
    emitter = network.network(samples_from_arrays(feeds(network), network.model.inputs)).emitter()
    strong = emitter.strong

    def forgetful(plan: PrecisionPlan) -> ir.Model:
        graph = strong(plan)
        del graph.graph.outputs[0]
        return graph

    monkeypatch.setattr(emitter, "strong", forgetful)
    with pytest.raises(InterfaceError, match=r"outputs y float32.*what is made of it"):
        deliver(emitter, PrecisionPlan.uniform(network.grouping.groups, Precision.INT8), tmp_path)
    assert not (tmp_path / "typed.onnx").exists()
