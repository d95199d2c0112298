"""Messages that protobuf reads and `onnx.checker` passes, and no library should be given."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper

from tests.fuzz.inputs import conv_net
from trt_mpq.errors import ModelError
from trt_mpq.graph.soundness import check_message


def initializer(model: onnx.ModelProto, name: str) -> TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def raw(change: Callable[[bytes], bytes]) -> Callable[[onnx.ModelProto], None]:
    def spoil(model: onnx.ModelProto) -> None:
        tensor = initializer(model, "fc.weight")
        tensor.raw_data = change(tensor.raw_data)

    return spoil


def shape(*dims: int) -> Callable[[onnx.ModelProto], None]:
    def spoil(model: onnx.ModelProto) -> None:
        initializer(model, "fc.weight").dims[:] = dims

    return spoil


def retyped(number: int) -> Callable[[onnx.ModelProto], None]:
    def spoil(model: onnx.ModelProto) -> None:
        initializer(model, "fc.weight").data_type = number

    return spoil


def location(value: str) -> Callable[[onnx.ModelProto], None]:
    def spoil(model: onnx.ModelProto) -> None:
        tensor = initializer(model, "fc.weight")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=value)

    return spoil


def recursion(*names: str) -> Callable[[onnx.ModelProto], None]:
    """Functions that call each other in a ring."""

    def spoil(model: onnx.ModelProto) -> None:
        for name, called in zip(names, (*names[1:], names[0]), strict=True):
            node = helper.make_node(called, ["x"], ["y"], domain="local")
            function = helper.make_function("local", name, ["x"], ["y"], [node], model.opset_import)
            model.functions.append(function)

    return spoil


def reference(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute[0].ref_attr_name = "outer"


def untyped(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute[0].type = AttributeProto.UNDEFINED


def fraction(model: onnx.ModelProto) -> None:
    [group] = (attribute for attribute in model.graph.node[0].attribute if attribute.name == "group")
    group.type, group.f = AttributeProto.FLOAT, 1.5


def transposed(model: onnx.ModelProto) -> None:
    [product] = (node for node in model.graph.node if node.name == "fc")
    product.attribute.append(helper.make_attribute("transB", (1 << 31) - 1))


def version(number: int) -> Callable[[onnx.ModelProto], None]:
    def spoil(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = number

    return spoil


def of_function(number: int) -> Callable[[onnx.ModelProto], None]:
    def spoil(model: onnx.ModelProto) -> None:
        model.functions[0].opset_import[0].version = number

    return spoil


def unmade_output(name: str) -> Callable[[onnx.ModelProto], None]:
    def spoil(model: onnx.ModelProto) -> None:
        model.graph.output[0].name = name
        model.graph.output[0].type.tensor_type.ClearField("shape")

    return spoil


def unmade_input(model: onnx.ModelProto) -> None:
    model.graph.node[-1].input[0] = "nowhere"


def bare(field: str) -> Callable[[onnx.ModelProto], None]:
    return lambda model: model.graph.node[0].ClearField(field)


def unmade_in_function(model: onnx.ModelProto) -> None:
    model.functions[0].node[0].input[1] = "nowhere"


def unmade_in_body(model: onnx.ModelProto) -> None:
    true = helper.make_tensor("true", TensorProto.BOOL, [], [True])
    branches = [
        helper.make_graph(
            [helper.make_node("Abs", [read], ["a"], name="abs")], "branch", [],
            [helper.make_tensor_value_info("a", TensorProto.FLOAT, None)],
        )
        for read in ("input", "nowhere")
    ]  # fmt: skip
    model.graph.initializer.append(true)
    node = helper.make_node("If", ["true"], ["either"], name="if", then_branch=branches[0], else_branch=branches[1])
    model.graph.node.append(node)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (bare("input"), r"node conv \(Conv\) has 0 inputs and needs 2: export the model again"),
        (bare("output"), r"node conv \(Conv\) has 0 outputs and needs 1"),
        (version(1 << 40), "wants operators of version 1099511627776, which there cannot be"),
        (version(-1), "wants operators of version -1, which there cannot be"),
        (of_function((1 << 63) - 1), "wants operators of version 9223372036854775807"),
        (unmade_output("nowhere"), "nothing makes the output 'nowhere'"),
        (unmade_output(""), "nothing makes the output ''"),
        (unmade_input, r"node fc \(Gemm\) reads nowhere, which nothing makes: export the model again"),
        (unmade_in_function, r"node y \(Add\) reads nowhere, which nothing makes"),
        (unmade_in_body, r"node abs \(Abs\) reads nowhere, which nothing makes"),
        (raw(lambda data: data + b"\0"), r"tensor fc.weight of shape \[128, 4\] needs 2048 bytes and has 2049"),
        (raw(lambda data: data[:-4]), "needs 2048 bytes and has 2044"),
        (shape(128, -4), r"has the shape \[128, -4\]"),
        (retyped(TensorProto.UNDEFINED), "tensor fc.weight has no type that ONNX knows"),
        (retyped(99), "tensor fc.weight has no type that ONNX knows"),
        (shape(1 << 40, 1 << 40), "is said to have 1.21e.24 elements"),
        (location("w\0.bin"), "which is no file name"),
        (location("a" * 300), "which is no file name"),
        (recursion("F"), "function F of the model calls itself"),
        (recursion("F", "G", "H"), "function F of the model calls itself"),
        (reference, r"attribute \w+ of node conv \(Conv\) refers to one of a function, and is in none"),
        (fraction, r"attribute group of node conv \(Conv\) is of type FLOAT instead of INT: export the model again"),
        (transposed, r"attribute transB of node fc \(Gemm\) is 2147483647 and says yes or no, by 1 or 0"),
        (untyped, r"of node conv \(Conv\) has no name or no type"),
    ],
)
def test_what_is_not_sound_is_refused(spoil: Callable[[onnx.ModelProto], None], words: str) -> None:
    model = conv_net()
    spoil(model)
    with pytest.raises(ModelError, match=words):
        check_message(model)


@pytest.mark.parametrize("text", [b"conv.weight", b"Reshape", b"batch", b"local"])
def test_text_that_is_no_utf8_is_refused_wherever_it_is(text: bytes) -> None:
    content = conv_net().SerializeToString().replace(text, b"\xff" + text[1:])
    model = onnx.ModelProto.FromString(content)
    with pytest.raises(ModelError, match="holds text that is not UTF-8"):
        check_message(model)


def test_a_sound_model_passes() -> None:
    check_message(conv_net())
