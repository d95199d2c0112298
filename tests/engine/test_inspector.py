"""The inspector's JSON of every supported TensorRT, read into layers that know their groups."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.engine.sample_engines import GROUPING, sample
from tests.fixtures_groups import make_chain, make_group, make_grouping
from trt_mpq.engine.inspector import engine_layers, is_opaque
from trt_mpq.errors import RuntimeFailure
from trt_mpq.types.engine import EngineTensor


def roles(name):
    return [(layer.role, layer.groups) for layer in engine_layers(sample(name), GROUPING)]


def one_layer(grouping=GROUPING, **fields):
    """The layer that the inspector describes with `fields`."""
    text = json.dumps({"Layers": [{"LayerType": "CaskConvolution", "Inputs": [], "Outputs": [], **fields}]})
    (layer,) = engine_layers(text, grouping)
    return layer


def tensor(**fields):
    (found,) = one_layer(Name="a", Inputs=[{"Name": "t", "Dimensions": [1, 2], **fields}]).inputs
    return found


def test_tensorrt_8_6():
    assert roles("trt8_6") == [
        ("quantize", ()),
        ("group", ("conv1",)),
        ("group", ("conv10",)),
        ("group", ("conv2",)),
        ("other", ()),
        ("reformat", ()),
        ("group", ("head",)),
    ]


def test_tensorrt_10():
    assert roles("trt10") == [
        ("quantize", ()),
        ("group", ("conv1",)),
        ("reformat", ()),
        ("group", ("conv10",)),
        ("group", ("conv10",)),
        ("group", ("conv2",)),
        ("other", ()),
        ("group", ("head",)),
    ]


def test_tensorrt_11():
    assert roles("trt11") == [
        ("quantize", ()),
        ("group", ("conv1",)),
        ("group", ("conv10",)),
        ("group", ("conv2",)),
        ("other", ()),
        ("group", ("head",)),
    ]


def test_an_engine_that_was_not_built_detailed_has_names_only():
    layers = engine_layers(sample("names_only"), GROUPING)

    assert [(layer.role, layer.groups) for layer in layers] == [
        ("quantize", ()),
        ("group", ("conv1",)),
        ("group", ("conv10",)),
        ("group", ("conv2",)),
        ("other", ()),
        ("reformat", ()),
        ("group", ("head",)),
    ]
    assert {(layer.kind, layer.inputs, layer.outputs, layer.tactic) for layer in layers} == {("", (), (), "")}


def test_what_a_layer_keeps_of_the_description():
    layer = engine_layers(sample("trt8_6"), GROUPING)[2]

    assert layer.name == "conv10.weight + conv10.weight_int8_q + conv10 + add + relu10"
    assert layer.kind == "CaskConvolution"
    assert layer.nodes == (
        "conv10.weight_int8_q", "conv10.weight_int8_dq", "relu1.out_int8_dq", "conv10", "add", "relu10",
    )  # fmt: skip
    assert layer.inputs[0] == EngineTensor(
        "relu1.out_int8_codes", "int8", "Thirty-two wide channel vectorized row major Int8 format", (8, 64, 32, 32)
    )
    assert layer.inputs[2] == EngineTensor("weights", "int8", "constant", (36864,))
    assert [output.datatype for output in layer.outputs] == ["fp16"]
    assert layer.tactic.startswith("sm80_xmma_fprop_implicit_gemm_i8f16_i8i32_f32")


@pytest.mark.parametrize(
    ("combined", "datatype"),
    [
        ("Row major linear FP32", "fp32"),
        ("Row major linear FP16 format", "fp16"),
        ("Thirty-two wide channel vectorized row major Int8 format.", "int8"),
        ("Channel major INT8 format where channel == 4 and column stride % 32 == 0", "int8"),
        ("Channel major BFloat16 format where channel % 8 == 0", "bf16"),
        ("Row major linear Int32", "int32"),
        ("Row major linear Int64 format", "int64"),
        ("Row major linear UInt8 format", "uint8"),
        ("Row major linear BOOL", "bool"),
        ("Row major linear FP8 format", "fp8"),
        ("Half", "fp16"),
        ("Float", "fp32"),
        ("Float8E4M3FN", "fp8"),
        ("FP4", "fp4"),
        ("INT4", "int4"),
        ("N/A due to dynamic shapes", "unknown"),
        ("Unknown format", "unknown"),
    ],
)
def test_datatypes_of_the_combined_description(combined, datatype):
    # The list is the one of trt-engine-explorer's activations.py.
    found = tensor(**{"Format/Datatype": combined})

    assert (found.datatype, found.layout, found.shape) == (datatype, combined.rstrip("."), (1, 2))


@pytest.mark.parametrize("key", ["Datatype", "DataType"])
def test_datatype_and_format_apart(key):
    found = tensor(**{"Format": "Channel major FP16 format where channel % 8 == 0", key: "BFloat16"})

    assert (found.datatype, found.layout) == ("bf16", "Channel major FP16 format where channel % 8 == 0")


def test_a_format_alone_still_tells_the_datatype():
    assert tensor(Format="Row major linear FP32 format (kLINEAR)").datatype == "fp32"


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("conv1", ("conv1",)),
        ("conv10", ("conv10",)),
        ("conv10 + conv1", ("conv10", "conv1")),
        ("conv1 || conv2", ("conv1", "conv2")),
        ("conv1.weight + conv1.weight_int8_dq", ()),
        ("conv1_myl0_3", ("conv1",)),
        ("conv1_clone_1", ("conv1",)),
        ("conv1 [profile 1]", ("conv1",)),
        ("conv1\x1frelu1", ("conv1",)),
        ("head + PWN(PWN(relu1, (Unnamed Layer* 16) [Shuffle]), conv2)", ("head", "conv2")),
        ("reshape_before_head", ()),
        ("xconv1", ()),
        ("conv100", ()),
        ("some conv1", ()),
    ],
)
def test_a_node_is_named_only_by_its_whole_name(name, groups):
    assert one_layer(Name=name).groups == groups


@pytest.mark.parametrize("hard", ["a + b", "a.b...c", "f(x)", "a, b", "conv[0]", "Conv 1", "(?:x)", "a\\b"])
def test_names_may_hold_what_tensorrt_joins_names_with(hard):
    grouping = make_grouping([make_group(hard, index=0), make_group("b", ["x"], index=1)])

    assert one_layer(grouping, Name=f"w + {hard} + PWN(relu)").groups == (hard,)
    assert one_layer(grouping, Name="n", Metadata=f"[ONNX Layer: {hard}]\x1e[ONNX Layer: r]").nodes == (hard, "r")


@pytest.mark.parametrize("separator", ["\x1e", "\x1f", "\x1e\x1f", ""])
def test_records_of_the_metadata(separator):
    metadata = separator.join(["[ONNX Layer: conv1]", "[ONNX Layer: w[Constant]]", "[ONNX Layer: conv1]"])

    assert one_layer(Name="__myl_Fc_myl0_1", Metadata=metadata).nodes == ("conv1", "w[Constant]")


def test_metadata_counts_more_than_the_name():
    assert one_layer(Name="conv1 + relu1", Metadata="[ONNX Layer: conv2]").groups == ("conv2",)


def test_raw_control_characters_are_read():
    text = json.dumps({"Layers": [{"Name": "a", "Metadata": "[ONNX Layer: conv1]\x1f[ONNX Layer: relu1]"}]})

    (layer,) = engine_layers(text.replace("\\u001f", "\x1f"), GROUPING)

    assert layer.nodes == ("conv1", "relu1")


def test_the_middle_of_a_foreign_node_is_found_by_network_order():
    first, hidden = engine_layers(sample("trt8_6_foreign_node"), GROUPING)

    assert first.groups == ("conv1",)
    assert sorted(hidden.groups) == ["conv10", "conv2", "head"]
    assert "conv2" not in hidden.nodes
    assert is_opaque(hidden)
    assert not is_opaque(first)


def foreign(*ranges, named=()):
    grouping = make_grouping(make_chain(6))
    layers = [{"Name": f"{{ForeignNode[{ends}]}}", "LayerType": "Myelin"} for ends in ranges]
    layers += [{"Name": name, "LayerType": "CaskConvolution"} for name in named]
    return [set(layer.groups) for layer in engine_layers(json.dumps({"Layers": layers}), grouping)]


def test_a_group_that_another_layer_names_is_not_inside_the_range():
    assert foreign("g0...g3", named=["g2"]) == [{"g0", "g1", "g3"}, {"g2"}]


def test_ranges_do_not_share_groups():
    assert foreign("g0...g2", "g3...g5") == [{"g0", "g1", "g2"}, {"g3", "g4", "g5"}]


def test_a_group_that_may_be_in_either_of_two_ranges_is_in_none():
    assert foreign("g0...g3", "g2...(Unnamed Layer* 9) [Shuffle]") == [{"g0", "g1", "g3"}, {"g2", "g4", "g5"}]
    assert foreign("318...(Unnamed Layer* 4) [Shuffle]", "g3...g5") == [{"g0", "g1", "g2"}, {"g3", "g5"}]


def test_a_range_may_begin_with_a_weight():
    assert foreign("g1.weight + g1.weight_q...g3", named=["g0"]) == [{"g1", "g2", "g3"}, {"g0"}]


def test_without_any_hidden_layer_a_missing_group_stays_missing():
    layers = engine_layers(sample("trt8_6_dynamic"), GROUPING)

    assert "head" not in {group for layer in layers for group in layer.groups}


@pytest.mark.parametrize(
    ("fields", "role"),
    [
        ({"Name": "Reformatting CopyNode for Input Tensor 0 to conv1", "LayerType": "Reformat"}, "reformat"),
        ({"Name": "conv1 copy", "LayerType": "Reformat", "Origin": "REFORMAT"}, "reformat"),
        ({"Name": "relu1", "LayerType": "NoOp"}, "reformat"),
        ({"Name": "__myl_MoveMove_myl0_3", "LayerType": "kgen"}, "reformat"),
        ({"Name": "x_int8_q", "LayerType": "Reformat", "Origin": "QDQ"}, "quantize"),
        ({"Name": "x_fp16", "LayerType": "Reformat", "Origin": "CAST"}, "quantize"),
        ({"Name": "x_fp16", "LayerType": "Reformat"}, "quantize"),
        ({"Name": "x_fp16", "LayerType": "Reformat", "Origin": "REFORMAT"}, "reformat"),
        ({"Name": "q", "LayerType": "Quantize"}, "quantize"),
        ({"Name": "QuantizeLinear_7_quantize_scale_node", "LayerType": ""}, "quantize"),
        ({"Name": "bn", "LayerType": "Scale"}, "other"),
        ({"Name": "__myl_Add_myl0_3", "LayerType": "kgen", "Metadata": "[ONNX Layer: Cast_3]"}, "quantize"),
        ({"Name": "__myl_Add_myl0_3", "LayerType": "kgen", "Metadata": "[ONNX Layer: Castle]"}, "other"),
        ({"Name": "pool", "LayerType": "CudaPooling"}, "other"),
    ],
)
def test_roles(fields, role):
    layer = one_layer(**fields)

    assert (layer.role, layer.groups) == (role, ())


@pytest.mark.parametrize(
    ("before", "after", "role"),
    [("Int8", "Half", "quantize"), ("Half", "Float", "reformat"), ("Int8", "Int8", "reformat")],
)
def test_a_reformat_without_an_origin_is_judged_by_its_datatypes(before, after, role):
    sides = {"Inputs": [{"Name": "a", "Format/Datatype": before}], "Outputs": [{"Name": "b", "Format/Datatype": after}]}

    assert one_layer(Name="r", LayerType="Reformat", **sides).role == role
    assert one_layer(Name="r", LayerType="Scale", **sides).role == ("quantize" if role == "quantize" else "other")


def test_a_kernel_that_names_a_followers_node_only_holds_no_group():
    assert one_layer(Name="add + relu10").role == "other"


def test_a_convolution_fused_with_its_pooling_spells_its_weights_differently():
    layer = one_layer(Name="conv1 + pool", LayerType="ConvActPool", ConvWeights={"Type": "Int8", "Count": 9408})

    assert layer.inputs == (EngineTensor("weights", "int8", "constant", (9408,)),)


def test_a_description_of_weights_in_another_form_is_passed_over():
    assert one_layer(Name="conv1", Weights=[1, 2]).inputs == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "[]",
        "{}",
        '{"Layers": 3}',
        '{"Layers": [3]}',
        '{"Layers": [{}]}',
        '{"Layers": [{"Name": "a", "Inputs": [1]}]}',
    ],
)
def test_a_malformed_text_is_one_sentence(text):
    with pytest.raises(RuntimeFailure, match=r"^the engine inspector wrote no layer list .*: report it") as caught:
        engine_layers(text, GROUPING)
    assert "\n" not in str(caught.value)


def test_names_that_begin_alike_are_told_apart_in_a_large_engine():
    groups = [replace(group, nodes=(group.id, f"{group.id}.relu")) for group in make_chain(1500)]
    layers = [{"Name": f"{group.id}.weight + {group.id} + {group.id}.relu", "LayerType": "a"} for group in groups]

    found = engine_layers(json.dumps({"Layers": layers}), make_grouping(groups))

    assert [layer.groups for layer in found] == [(group.id,) for group in groups]
