"""Requested against realised precision, on engines of every supported TensorRT and on single layers."""

from __future__ import annotations

import pytest

from tests.engine.sample_engines import FP8, FP16, FP32, GROUPING, INT8, PLAN, sample
from tests.fixtures_groups import make_group, make_grouping
from trt_mpq.engine.datatypes import kernel_datatype
from trt_mpq.engine.inspector import engine_layers
from trt_mpq.engine.realised import disagreements, realise
from trt_mpq.types import Precision, PrecisionPlan
from trt_mpq.types.engine import EngineLayer, EngineTensor

BF16 = Precision.BF16
ONE = make_grouping([make_group("conv3")])


def realised_of(name, plan=PLAN):
    return realise(plan, GROUPING, engine_layers(sample(name), GROUPING))


def precisions(name, plan=PLAN):
    return [group.realised for group in realised_of(name, plan).groups]


def layer(reads=(), writes=(), weights=None, *, kind="CaskConvolution", tactic="", name="conv3", nodes=("conv3",)):
    """An engine layer that holds conv3, its tensors given by their datatypes."""
    inputs = tuple(EngineTensor(f"in{i}", datatype, "", (1,)) for i, datatype in enumerate(reads))
    if weights:
        inputs += (EngineTensor("weights", weights, "constant", (9,)),)
    outputs = tuple(EngineTensor(f"out{i}", datatype, "", (1,)) for i, datatype in enumerate(writes))
    return EngineLayer(name, kind, "group", ("conv3",), nodes, inputs, outputs, tactic)


def outcome(*layers, asked=INT8):
    (group,) = realise(PrecisionPlan.of({"conv3": asked}), ONE, layers).groups
    return group


def test_tensorrt_8_6():
    found = realised_of("trt8_6")

    assert [group.realised for group in found.groups] == [INT8, INT8, FP16, FP32]
    assert [group.note for group in found.groups] == ["", "", "", "its kernel rounds operands to tf32"]
    assert found.unfused == ("x_int8_q",)
    assert found.reformats == ("Reformatting CopyNode for Input Tensor 0 to head",)
    assert (found.layers, found.agreeing, found.unknown) == (7, 4, 0)
    assert found.groups[1].layers == ("conv10.weight + conv10.weight_int8_q + conv10 + add + relu10",)
    assert disagreements(found) == ()


def test_tensorrt_10():
    found = realised_of("trt10")

    assert [group.realised for group in found.groups] == [INT8, FP16, FP16, None]
    assert found.groups[1].layers == ("__myl_MoveConc_myl0_3", "conv10_myl0_4")
    assert (found.unfused, found.reformats) == (("__myl_CastQuan_myl0_0",), ("__myl_Move_myl0_2",))
    assert disagreements(found) == (
        "conv10 was asked for int8 and runs in fp16: its input reaches it unquantized",
        "head was asked for fp32 and what it runs in is unknown: TensorRT hides what runs inside "
        "__myl_MeanDequFcAdd_myl0_6, of which is known that it reads fp16 and writes fp32",
    )


def test_tensorrt_11():
    plan = PrecisionPlan.of({"conv1": FP16, "conv10": FP8, "conv2": FP16, "head": FP32})
    found = realised_of("trt11", plan)

    assert [group.realised for group in found.groups] == [FP16, FP8, BF16, FP32]
    assert [text.startswith("conv2 was asked for fp16 and runs in bf16: ") for text in disagreements(found)] == [True]


def test_what_myelin_hides_is_unknown():
    found = realised_of("trt8_6_foreign_node")

    assert [group.realised for group in found.groups] == [FP16, None, None, None]
    assert found.unknown == 3
    assert all(group.note.startswith("TensorRT hides what runs inside {ForeignNode[") for group in found.groups[1:])


def test_without_datatypes_the_kernel_or_else_the_weights_tell():
    # conv1 by its kernel, conv10 by FP16 weights; INT8 weights alone may be widened first, and head is in no layer.
    assert precisions("trt8_6_dynamic") == [INT8, FP16, None, None]
    assert realised_of("trt8_6_dynamic").groups[3].note == "no layer of the engine names it"


def test_names_only():
    found = realised_of("names_only")

    assert [group.realised for group in found.groups] == [None] * 4
    assert {group.note for group in found.groups} == {"the engine was built without detailed profiling verbosity"}
    assert found.unfused == ("x_int8_q",)


@pytest.mark.parametrize(
    ("tactic", "datatype"),
    [
        # In the forms seen in public TensorRT build logs and layer dumps; the last three tell nothing.
        ("sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs_vect_c_32_t1r3s3", "int8"),
        ("sm80_xmma_fprop_implicit_gemm_interleaved_i8f32_i8i32_f32_nchw_vect_c_32kcrs_vect_c_32_nchw", "int8"),
        ("sm80_xmma_gemm_i8f32_i8i32_f32_by_fusion_tactic", "int8"),
        ("ampere_int8x4_icudnn_int8x4_128x32_relu_interior_c32_nn_v1", "int8"),
        ("turing_int8_i8816cudnn_int8_256x128_ldg16_relu_singleBuffer_small_nt_v1", "int8"),
        ("sm80_xmma_gemm_f16f16_f16f16_f16_nn_n_tilesize32x32x64_stage6", "fp16"),
        ("sm80_xmma_fprop_implicit_gemm_indexed_wo_smem_f16f16_f16f16_f16_nhwckrsc_nhwc_tilesize128x16x64", "fp16"),
        ("turing_h1688cudnn_256x64_sliced1x2_ldg8_relu_exp_interior_nhwc_tn_v1", "fp16"),
        ("volta_fp16_s884cudnn_fp16_256x128_ldg8_relu_f2f_exp_small_nhwc_tn_v1", "fp16"),
        ("trt_volta_h884cudnn_256x64_ldg8_relu_exp_medium_nhwc_tn_v1", "fp16"),
        ("sm80_xmma_fprop_implicit_gemm_tf32f32_tf32f32_f32_nhwckrsc_nchw_tilesize128x128x16", "tf32"),
        ("sm80_xmma_fprop_implicit_gemm_f32f32_tf32f32_f32_nhwckrsc_nhwc_tilesize64x64x64", "tf32"),
        ("sm80_xmma_fprop_implicit_gemm_f32f32_f32f32_f32_nchwkcrs_nchw_tilesize32x32x8_ffma", "fp32"),
        ("ampere_scudnn_128x64_relu_small_nn_v1", "fp32"),
        ("volta_sgemm_128x64_nn", "fp32"),
        ("sm80_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x128x32", "bf16"),
        ("sm89_xmma_gemm_e4m3bf16_e4m3f32_f32_tn_n_tilesize64x64x64", "fp8"),
        ("sm90_xmma_gemm_e4m3e4m3_e4m3f32_f32_tn_n_tilesize64x64x64", "fp8"),
        ("__myl_MeanFcAdd_0xf16f16f32e4m3", "unknown"),
        ("sm80_xmma_something_new", "unknown"),
        ("", "unknown"),
    ],
)
def test_kernel_names(tactic, datatype):
    assert kernel_datatype(tactic) == datatype


@pytest.mark.parametrize("kernel", ["sm80_xmma_gemm_i8f16_i8i32_f32_tn", "ampere_int8x4_icudnn_int8x4_128x32_v1", ""])
def test_int8_that_is_written_as_fp16_still_computes_in_int8(kernel):
    assert outcome(layer(["int8"], ["fp16"], "int8", tactic=kernel)).realised is INT8


def test_the_kernel_counts_more_than_the_tensors():
    assert outcome(layer(["int8"], ["int8"], "int8", tactic="sm80_xmma_gemm_f16f16_f16f32_f32_tn")).realised is FP16
    assert outcome(layer(["fp16"], ["fp16"], tactic="sm80_xmma_gemm_i8i8_i8i32_f32_tn")).realised is INT8


@pytest.mark.parametrize(
    ("reads", "weights", "realised"),
    [
        (["int8", "fp16"], "int8", INT8),
        (["fp16", "int8"], "fp16", FP16),
        (["int8"], None, INT8),
        (["fp8"], "fp8", FP8),
        (["fp16"], None, FP16),
        (["fp16"], "int8", FP16),
        (["fp16"], "int4", FP16),
        (["fp32"], "fp32", FP32),
        (["int8"], "fp16", None),
        (["fp32"], "fp16", None),
        (["unknown"], "fp16", FP16),
        (["unknown"], "int8", None),
        ([], "fp32", FP32),
        ([], None, None),
        (["bf16"], "bf16", BF16),
        (["bf16"], "int8", BF16),
        (["int32"], "int32", None),
    ],
)
def test_without_a_kernel_name_the_data_input_and_the_weights_tell(reads, weights, realised):
    assert outcome(layer(reads, ["fp16"], weights)).realised is realised


@pytest.mark.parametrize("kind", ["kgen", "Myelin", "fusion"])
def test_inside_a_hidden_layer_only_one_half_type_throughout_is_certain(kind):
    assert outcome(layer(["fp16", "bool"], ["fp16"], kind=kind)).realised is FP16
    assert outcome(layer(["bf16"], ["bf16"], kind=kind)).realised is BF16
    assert outcome(layer(["bf16"], ["fp16"], kind=kind)).realised is None
    assert outcome(layer(["fp16"], ["fp32"], kind=kind)).realised is None
    assert outcome(layer(["fp32"], ["fp32"], kind=kind)).realised is None
    assert outcome(layer(["int8"], ["int8"], kind=kind)).realised is None
    assert outcome(layer(["fp16"], ["fp16"], kind=kind, nodes=("q_int8_q", "conv3"))).realised is None
    assert outcome(layer(["fp16"], ["fp16"], kind=kind, nodes=())).realised is None
    assert outcome(layer(["fp16"], ["fp16"], kind=kind, name="{ForeignNode[conv3...b]}")).realised is None
    assert outcome(layer([], [], kind=kind)).realised is None


def test_a_hidden_layer_whose_kernel_is_named_is_not_hidden():
    assert outcome(layer(["fp16"], ["fp16"], kind="fusion", tactic="sm80_xmma_gemm_i8i8_i8i32_f32_tn")).realised is INT8


def test_helpers_beside_the_kernel_do_not_count():
    helper = layer(["fp16"], ["fp16"], kind="kgen", name="__myl_Conc_myl0_1")

    found = outcome(helper, layer(["int8"], ["fp16"], "int8"))

    assert (found.realised, found.layers) == (INT8, ("__myl_Conc_myl0_1", "conv3"))


@pytest.mark.parametrize(
    "helper",
    [
        layer(["fp16"], ["fp16"], kind="Shuffle", name="reshape"),
        layer(["fp16"], ["fp16"], kind="kgen", name="__myl_Conc_myl0_1"),
        layer(["fp16"], ["fp16"], kind="ElementWise", name="bias"),
    ],
)
@pytest.mark.parametrize(
    ("kernel", "realised"),
    [
        (layer(["int8"], ["fp16"], "int8"), INT8),
        (layer(["unknown"], ["unknown"], tactic="ampere_int8x4_icudnn_int8x4_128x32"), INT8),
        (layer(["unknown"], ["fp16"], "int8"), None),
    ],
)
def test_the_layer_that_surely_multiplies_counts_alone(helper, kernel, realised):
    assert outcome(helper, kernel).realised is realised
    assert outcome(kernel, helper).realised is realised


def test_a_layer_that_only_moves_data_tells_nothing():
    found = outcome(layer(["int8"], ["int8"], kind="Shuffle", name="reshape"))

    assert (found.realised, found.note) == (None, "of its layers only reshape is known, which moves data")


def test_one_silent_layer_among_equals_leaves_the_group_unknown():
    clear, silent = layer(["fp16"], ["fp16"], kind="kgen"), layer(["int8"], ["fp16"], kind="kgen", name="other")

    assert outcome(clear, silent).realised is None
    assert outcome(clear, silent).note.startswith("TensorRT hides what runs inside other,")


def test_layers_that_disagree_are_unknown():
    found = outcome(layer(["int8"], ["int8"]), layer(["fp16"], ["fp16"], name="conv3_clone_1"))

    assert found.realised is None
    assert found.note == "its layers run in different precisions: conv3 in int8, conv3_clone_1 in fp16"


@pytest.mark.parametrize(
    ("asked", "found", "sentence"),
    [
        (INT8, layer(["fp16"]), "conv3 was asked for int8 and runs in fp16: its input reaches it unquantized"),
        (FP8, layer(["fp32"]), "conv3 was asked for fp8 and runs in fp32: its input reaches it unquantized"),
        (FP16, layer(["int8"]), "conv3 was asked for fp16 and runs in int8: its input reaches it in int8"),
        (FP16, layer(["fp32"]), "conv3 was asked for fp16 and runs in fp32: its input reaches it in fp32"),
        (FP8, layer(["int8"]), "conv3 was asked for fp8 and runs in int8: its input reaches it in int8"),
        (
            INT8,
            layer(["int8"], tactic="turing_h1688cudnn"),
            "conv3 was asked for int8 and runs in fp16: TensorRT chose the kernel turing_h1688cudnn",
        ),
        (
            INT8,
            layer([], weights="fp16"),
            "conv3 was asked for int8 and runs in fp16: TensorRT decided so, and the engine does not say why",
        ),
        (
            INT8,
            layer([]),
            "conv3 was asked for int8 and what it runs in is unknown: "
            "neither the kernel of conv3 nor what it reads tells",
        ),
    ],
)
def test_a_disagreement_is_one_sentence(asked, found, sentence):
    assert disagreements(realise(PrecisionPlan.of({"conv3": asked}), ONE, (found,))) == (sentence,)


@pytest.mark.parametrize("precision", [FP32, FP16, FP8, INT8])
def test_agreement_says_nothing(precision):
    found = realise(PrecisionPlan.of({"conv3": precision}), ONE, (layer([str(precision)]),))

    assert disagreements(found) == ()
    assert found.groups[0].note == ""


def test_tf32_is_no_disagreement_with_fp32_but_is_one_with_fp16():
    tf32 = layer(["fp32"], tactic="sm80_xmma_gemm_f32f32_tf32f32_f32_tn_n")

    assert outcome(tf32, asked=FP32).note == "its kernel rounds operands to tf32"
    assert outcome(tf32, asked=FP16).realised is Precision.FP32


def test_long_layer_names_are_cut_in_notes():
    name = " + ".join(f"node{i}" for i in range(100))

    note = outcome(layer([], name=name)).note

    assert len(note) < 140
    assert "node0 + node1" in note


def test_a_plan_without_one_of_the_groups_is_refused():
    with pytest.raises(KeyError):
        realise(PrecisionPlan.of({"conv1": INT8}), GROUPING, ())


@pytest.mark.parametrize(
    ("found", "asked", "realised", "note"),
    [
        (layer(["fp16"], weights="int4"), Precision.W4A16, Precision.W4A16, ""),
        (layer(["bf16"], weights="int8"), Precision.W8A16, Precision.W8A16, ""),
        (layer(["fp16"], weights="fp16"), Precision.W4A16, FP16, "its weights are stored as fp16"),
        (layer(["fp16"]), Precision.W4A16, None, "does not say what its weights are stored as"),
        (layer(["fp16"], weights="int4"), FP16, FP16, ""),
        (layer(["fp4"], tactic="sm120_xmma_gemm_e2m1e2m1_e2m1f32_f32_tn_n"), Precision.NVFP4, Precision.NVFP4, ""),
        (layer(["fp4"], weights="fp4"), Precision.NVFP4, Precision.NVFP4, ""),
    ],
)
def test_weights_alone_are_told_by_what_a_16_bit_kernel_reads(found, asked, realised, note):
    group = outcome(found, asked=asked)
    assert group.realised is realised
    assert note in group.note
