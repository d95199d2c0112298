"""Ifs that are decided beforehand vanish; control flow that stays runs as the model has it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.networks import Builder, parsed
from tests.prepared import RUNTIME, Prepared, normal, prepare
from trt_mpq.dataset.chunks import chunks
from trt_mpq.emit import Emitter
from trt_mpq.errors import ModelError
from trt_mpq.graph.control_flow import close_bodies, reads
from trt_mpq.model import prepare_model
from trt_mpq.sensitivity.prefix import Prefix
from trt_mpq.types import Precision


def written(folder: Path, text: str, weights: dict[str, np.ndarray], opset: int = 17) -> Path:
    proto = parsed(f'<ir_version: 8, opset_import: ["":{opset}]> {text}', weights)
    onnx.checker.check_model(proto)
    onnx.save(proto, folder / "source.onnx")
    return folder / "source.onnx"


def operators(folder: Path, text: str, weights: dict[str, np.ndarray], opset: int = 17) -> tuple[list[str], np.ndarray]:
    """What the prepared network consists of, and its one output for eight numbers, which is what the source gives."""
    source = written(folder, text, weights, opset)
    prepare_model(source, folder / "prepared.onnx")
    feeds = {"x": normal(2, 4)}
    (found,), (wanted,) = (RUNTIME.load(path).run(feeds).values() for path in (folder / "prepared.onnx", source))
    np.testing.assert_array_equal(found, wanted)
    return [node.op_type for node in onnx.load(folder / "prepared.onnx").graph.node], found


def branches(condition: str, given: str = "x", result: str = "y") -> str:
    """An If: then the first size-1 axis goes away where there is one, else the tensor is negated."""
    return f"""{result} = If ({condition}) <
        then_branch = then () => (float[] t) {{ t = Relu({given}) }},
        else_branch = else () => (float[] e) {{ two = Constant<value = float {{2.0}}> () e = Mul({given}, two) }}>"""


@pytest.mark.parametrize(("taken", "operator"), [(True, "Relu"), (False, "Mul")])
def test_constant_condition(taken: bool, operator: str, tmp_path: Path) -> None:
    text = f"g (float[N,4] x) => (float[N,4] y) {{ {branches('c')} }}"
    assert operators(tmp_path, text, {"c": np.bool_(taken)})[0] == [operator]


@pytest.mark.parametrize("index", [1, -1])
def test_condition_that_follows_from_a_size(index: int, tmp_path: Path) -> None:
    """As torch guards a squeeze: the batch is free, the size asked for is not."""
    text = f"""g (float[N,4] x) => (float[N,4] y) {{
        s = Shape(x) n = Gather(s, i) c = Equal(n, four) {branches("c")} }}"""
    assert operators(tmp_path, text, {"i": np.int64(index), "four": np.int64(4)})[0] == ["Relu"]


def test_condition_that_follows_from_the_branch_of_another(tmp_path: Path) -> None:
    """Only when the first If is gone the shape of its result is known."""
    first = """p = If (c) < then_branch = then () => (float[] t) { t = Unsqueeze(x, one) },
                            else_branch = else () => (float[] e) { e = Identity(x) }>"""
    text = f"""g (float[N,4] x) => (float[N,k,4] y) {{
        {first} s = Shape(p) n = Gather(s, one_of) c2 = Equal(n, four) {branches("c2", "p")} }}"""
    weights = {"c": np.bool_(True), "one": np.int64([1]), "one_of": np.int64(1), "four": np.int64(4)}
    assert operators(tmp_path, text, weights)[0] == ["Unsqueeze", "Mul"]


def test_condition_on_data_or_on_the_batch_stays(tmp_path: Path) -> None:
    text = f"""g (float[N,4] x) => (float[N,4] y) {{
        s = Shape(x) n = Gather(s, zero) c = Equal(n, four) {branches("c", result="h")}
        m = ReduceMax<keepdims = 0>(h) d = Greater(m, nought) {branches("d", "h")} }}"""
    weights = {"zero": np.int64(0), "four": np.int64(4), "nought": np.float32(0)}
    assert operators(tmp_path, text, weights)[0].count("If") == 2


def test_bodies_are_converted_between_opsets(tmp_path: Path) -> None:
    """Below opset 13 a reduction has its axes as an attribute."""
    text = """g (float[N,4] x) => (float[N,1] y) {
        m = ReduceMax<keepdims = 0>(x) c = Greater(m, nought) y = If (c) <
        then_branch = then () => (float[] t) { t = ReduceSum<axes = [1]>(x) },
        else_branch = else () => (float[] e) { e = ReduceMean<axes = [1]>(x) }> }"""
    operators(tmp_path, text, {"nought": np.float32(0)}, opset=11)


def test_control_flow_that_no_parser_knows(tmp_path: Path) -> None:
    text = """g (float[N,4] x) => (float[N,4] y) {
        s = SequenceConstruct(x) m = SequenceMap(s) < body = b (float[N,4] a) => (float[N,4] r) { r = Relu(a) } >
        y = SequenceAt(m, nought) }"""
    source = written(tmp_path, text, {"nought": np.int64(0)})
    with pytest.raises(ModelError, match=r"\(SequenceMap\) is control flow .* takes If, Loop, Scan"):
        prepare_model(source, tmp_path / "prepared.onnx")


def test_several_outputs_of_one_tensor(tmp_path: Path) -> None:
    text = (
        "g (float[N,4] x) => (float[N,4] y, float[N,4] z, float[N,4] i) { y = Relu(x) z = Identity(y) i = Identity(x) }"
    )
    prepare_model(written(tmp_path, text, {}), tmp_path / "prepared.onnx")
    values = RUNTIME.load(tmp_path / "prepared.onnx").run({"x": normal(2, 4)})
    assert list(values) == ["y", "z", "i"]
    np.testing.assert_array_equal(values["z"], np.maximum(values["i"], 0))


def forked() -> onnx.ModelProto:
    """Convolutions around an If whose branches read, by name, what the first one and its Relu write, and constants."""
    b = Builder(0)
    plain = b.conv("first", "input", (3, 16))
    wide = b.relu("first.relu", plain)
    second = b.conv("second", wide, (16, 16))
    largest = b.node("ReduceMax", "largest", [second], keepdims=0)
    condition = b.node("Greater", "positive", [largest, b.constant("nought", np.float32(0))])
    factor = b.normal("factor", (1, 16, 1, 1), 1.0)

    def branch(name: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(f"{name}.out", TensorProto.FLOAT, None)
        return helper.make_graph(nodes, name, [], [value])

    half = helper.make_node("Constant", [], ["half"], value=numpy_helper.from_array(np.float32([0.5])))
    then = branch(
        "then", helper.make_node("Mul", [second, factor], ["m"]), helper.make_node("Add", ["m", wide], ["then.out"])
    )
    other = branch("else", half, helper.make_node("Sub", [wide, "half"], ["else.out"]))
    joined = b.node("If", "choice", [condition], then_branch=then, else_branch=other)
    b.classifier(b.conv("last", joined, (16, 16)), 16, 10)
    return b.model((3, 8, 8), (10,))


@pytest.fixture(scope="module")
def network() -> Prepared:
    return prepare(forked())


def test_operator_reads_what_its_bodies_read(network: Prepared) -> None:
    choice = network.graph.graph.node("choice")
    assert {value.name for value in reads(choice)} == {
        "positive.out", "second.out", "factor", "first.relu.out", "half",
    }  # fmt: skip
    closed = network.graph.clone()
    close_bodies(closed.graph)
    assert [value.name for value in closed.graph.node("choice").inputs] == [value.name for value in reads(choice)]
    assert {user.name for user, _ in closed.graph.node("second").outputs[0].uses()} == {"largest", "choice"}


def test_groups_end_where_a_body_reads(network: Prepared) -> None:
    """The Mul and the Add inside are no followers of a convolution."""
    assert {group.id: group.nodes for group in network.grouping.groups} == {
        "first": ("first", "first.relu"), "second": ("second",), "last": ("last",), "head": ("head",),
    }  # fmt: skip
    (choice,) = (op for op in network.grouping.loose if op.op_type == "If")
    assert sorted(choice.inputs) == ["first.relu.out", "second.out"]
    assert choice.reason is not None
    assert choice.reason.startswith("control flow: ")


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP8, Precision.FP16, Precision.BF16])
def test_bodies_stay_in_fp32_between_quantized_layers(network: Prepared, precision: Precision) -> None:
    values = normal(8, 3, 8, 8)
    emitter = Emitter(network.graph, network.grouping, network.calibrated(network.samples(values)))
    plan = network.grouping.uniform(precision)
    typed = emitter.strong(plan)
    onnx.checker.check_model(ir.to_proto(typed), full_check=True)
    inner = [node for body in typed.graph.subgraphs() for node in body]
    assert {value.dtype for node in inner for value in node.inputs if value is not None} == {ir.DataType.FLOAT}
    exact, strong, reference = (
        RUNTIME.load(graph).run({"input": values})["output"]
        for graph in (network.graph, typed, emitter.reference(plan))
    )
    noise, span = np.abs(strong - reference).max(), np.abs(exact).max()
    assert noise < 0.02 * span
    assert 0 < np.abs(reference - exact).max() < 0.2 * span


def test_parts_of_a_network_with_control_flow(network: Prepared) -> None:
    """What is kept before the last layers holds what a body in between reads."""
    samples = network.samples(normal(4, 3, 8, 8))
    prefix = Prefix(network.graph, network.grouping.groups, RUNTIME, list(chunks(samples, 2)))
    whole = RUNTIME.load(network.graph)
    for group in network.grouping.groups:
        rest = prefix.rest([group.id], network.graph.clone())
        for number, chunk in enumerate(chunks(samples, 2)):
            np.testing.assert_allclose(rest.run(number, chunk)["output"], chunk.run(whole)["output"], rtol=1e-5)
