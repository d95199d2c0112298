"""The fake parser, builder, inspector and runtime accept and refuse what TensorRT does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.device import Log, build, layers, load, parse, precisions_of, tensorrt
from tests.fakes.samples import network

pytest_plugins = ["tests.fakes.fixtures"]

Pretend = Callable[..., Path]
WEAK_INT8 = ("FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS")


def test_a_timing_cache_saves_timing_and_belongs_to_its_device(pretend_gpu: Pretend) -> None:
    pretend_gpu()
    log = Log()
    builder, definition, _ = parse(network(), log, strong=True)
    profile = builder.create_optimization_profile()
    profile.set_shape("x", *[(4, 3, 8, 8)] * 3)

    def timed(content: bytes) -> tuple[str, bytes]:
        config = builder.create_builder_config()
        config.add_optimization_profile(profile)
        assert config.set_timing_cache(config.create_timing_cache(content), ignore_mismatch=False)
        assert builder.build_serialized_network(definition, config) is not None
        return log.messages[-1][1], bytes(config.get_timing_cache().serialize())

    first, cache = timed(b"")
    second, _ = timed(cache)
    assert (first.split()[1], second.split()[1]) == ("6", "0")
    pretend_gpu(gpu="Another")
    config = tensorrt().Builder(Log().logger()).create_builder_config()
    assert not config.set_timing_cache(config.create_timing_cache(cache), ignore_mismatch=False)


@pytest.mark.parametrize("version", ["8.6", "11.4"])
def test_an_unknown_operator_is_a_parser_error_that_names_the_node(version: str, pretend_gpu: Pretend) -> None:
    pretend_gpu(version)
    model = network()
    model.graph.node[1].op_type = "Mystery"
    _, _, parser = parse(model, Log(), strong=version == "11.4")
    assert parser.num_errors == 1
    error = parser.get_error(0)
    assert (error.node(), error.code().name) == (1, "UNSUPPORTED_NODE")
    assert "Plugin not found" in error.desc()
    if version == "11.4":
        assert (error.node_name(), error.node_operator()) == ("stem.relu", "Mystery")


def test_8_6_reads_no_newer_opset_and_no_fp8(pretend_gpu: Pretend) -> None:
    pretend_gpu("8.6")
    model = network()
    model.opset_import[0].version = 18
    assert "opset 18" in parse(model, Log(), strong=False)[2].get_error(0).desc()
    model = network(("left",), fp8=True)
    model.opset_import[0].version = 17
    assert parse(model, Log(), strong=False)[2].num_errors == 1


def test_8_6_needs_an_explicit_batch(pretend_gpu: Pretend) -> None:
    pretend_gpu("8.6")
    definition = tensorrt().Builder(Log().logger()).create_network()
    assert not tensorrt().OnnxParser(definition, Log().logger()).parse(network().SerializeToString())


def test_layers_are_named_like_the_nodes(fake_gpu: Path) -> None:
    _, definition, _ = parse(network(), Log(), strong=True)
    nodes = {node.name for node in network().graph.node}
    named = {layer.name: layer.type.name for layer in definition if layer.name in nodes}
    assert named.keys() == nodes
    assert (named["left"], named["skip"], named["flat"]) == ("CONVOLUTION", "ELEMENTWISE", "SHUFFLE")


def test_a_strongly_typed_network_takes_no_precisions(fake_gpu: Path) -> None:
    log = Log()
    assert build(network(), log, flags=("FP16",)) is None
    assert "FP16" in log.errors[-1]
    log = Log()
    assert build(network(), log, precisions={"left": "HALF"}) is None
    assert "left" in log.errors[0]


def test_quantized_networks_need_the_flag_in_weak_mode(fake_gpu: Path) -> None:
    log = Log()
    assert build(network(("left",)), log, strong=False, flags=("FP16",)) is None
    assert "kINT8" in log.errors[-1]


def test_a_layer_precision_needs_its_flag_in_weak_mode(fake_gpu: Path) -> None:
    log = Log()
    flags = ("OBEY_PRECISION_CONSTRAINTS",)
    assert build(network(), log, strong=False, flags=flags, precisions={"left": "HALF"}) is None
    assert "left: layer precision is fp16, but kFP16 is not set" in log.errors[-1]


def test_a_dynamic_input_needs_a_profile(fake_gpu: Path) -> None:
    log = Log()
    builder, definition, _ = parse(network(), log, strong=True)
    assert builder.build_serialized_network(definition, builder.create_builder_config()) is None
    assert "dynamic input" in log.errors[-1]


def test_fp8_needs_the_hardware(pretend_gpu: Pretend) -> None:
    model = network(("left",), fp8=True)
    pretend_gpu(gpu="Fake Orin", sm=87)
    log = Log()
    assert build(model, log) is None
    assert "FP8" in log.errors[-1]
    pretend_gpu()
    assert (
        precisions_of(build(model) or b"")["left.weight + left.weight.q_quantize_scale_node + left + left.relu"]
        == "FP8"
    )


def test_weighted_operators_take_what_follows(pretend_gpu: Pretend) -> None:
    pretend_gpu("11.4")
    assert precisions_of(build(network(half=True)) or b"") == {
        "to_half": "Float",
        "stem + stem.relu": "Half",
        "left + left.relu": "Half",
        "right + skip + skip.relu": "Half",
        "pool": "Half",
        "flat": "Half",
        "head": "Half",
        "to_float": "Half",
    }


def test_quantizers_vanish_between_quantized_layers_and_reformat_elsewhere(pretend_gpu: Pretend) -> None:
    pretend_gpu("8.6")
    plan = build(network(("left", "right")), strong=False, flags=WEAK_INT8) or b""
    found = [(layer["Name"].split(" + ")[0], layer["LayerType"]) for layer in layers(plan)]
    assert found == [
        ("Reformatting CopyNode for Input Tensor 0 to stem", "Reformat"),
        ("stem", "CaskConvolution"),
        ("Reformatting CopyNode for Input Tensor 0 to left.weight", "Reformat"),
        ("left.weight", "CaskConvolution"),
        ("right.weight", "CaskConvolution"),
        ("pool", "Reduce"),
        ("flat", "Shuffle"),
        ("head", "CaskGemmMatrixMultiply"),
        ("Reformatting CopyNode for Output Tensor 0 to head", "Reformat"),
    ]
    left, right = layers(plan)[3:5]
    assert left["Metadata"] == "[ONNX Layer: left]\x1e[ONNX Layer: left.relu]"
    assert "Int8" in left["Outputs"][0]["Format/Datatype"]
    assert left["Outputs"][0]["Name"] == right["Inputs"][0]["Name"] == "right.in.q"


def test_a_quantizer_beside_another_reader_is_a_reformat(pretend_gpu: Pretend) -> None:
    pretend_gpu("11.4")
    found = [
        (layer["Name"], [tensor["Datatype"] for tensor in (*layer["Inputs"], *layer["Outputs"])])
        for layer in layers(build(network(("stem", "left"))) or b"")
    ]
    left = "left.weight + left.weight.q_quantize_scale_node + left + left.relu"
    assert found[1:4] == [
        ("stem.weight + stem.weight.q_quantize_scale_node + stem + stem.relu", ["Int8", "Float"]),
        (f"Reformatting CopyNode for Input Tensor 0 to {left}", ["Float", "Int8"]),
        (left, ["Int8", "Float"]),
    ]
    assert found[4] == ("right + skip + skip.relu", ["Float", "Float", "Float"])


@pytest.mark.parametrize("obeyed", [True, False])
def test_precisions_of_layers_count_if_they_are_to_be_obeyed(obeyed: bool, fake_gpu: Path) -> None:
    flags = ("FP16", "OBEY_PRECISION_CONSTRAINTS") if obeyed else ("FP16",)
    plan = build(network(), strong=False, flags=flags, precisions={"left": "FLOAT"}) or b""
    found = precisions_of(plan)
    assert (found["left + left.relu"], found["stem + stem.relu"]) == ("Float" if obeyed else "Half", "Half")


def test_the_inspector_speaks_the_schema_of_its_version(trt_version: str, pretend_gpu: Pretend) -> None:
    pretend_gpu(trt_version)
    trt = tensorrt()
    plan = build(network(), strong=trt_version != "8.6") or b""
    text = load(plan).create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    described = json.loads(text)
    tensor = described["Layers"][0]["Inputs"][0]
    if trt_version == "11.4":
        assert [io["IOMode"] for io in described["I/O Tensors"]] == ["Input", "Output"]
        assert (tensor["Format"], tensor["Datatype"], "Bindings" in described) == ("Linear", "Float", False)
    else:
        assert described["Bindings"] == ["x", "y"]
        assert tensor["Format/Datatype"] == ("Row major linear FP32" if trt_version == "8.6" else "Float")


def test_an_engine_built_without_details_tells_names_only(fake_gpu: Path) -> None:
    plan = build(network(), verbosity="LAYER_NAMES_ONLY") or b""
    assert layers(plan)[0] == "stem + stem.relu"


def test_layers_can_be_hidden_and_int8_ignored(pretend_gpu: Pretend) -> None:
    pretend_gpu(hidden=("left",), int8_ignored=("right",))
    plan = build(network(("left", "right")), strong=False, flags=WEAK_INT8) or b""
    kinds = {layer["LayerType"]: layer["Name"] for layer in layers(plan)}
    assert kinds["Myelin"] == "{ForeignNode[left...left.relu]}"
    found = precisions_of(plan)
    assert next(dtype for name, dtype in found.items() if name.startswith("right.weight")) == "Half"


def test_a_plan_is_refused_by_another_version_and_on_another_gpu(pretend_gpu: Pretend) -> None:
    pretend_gpu("10.16")
    plan, portable = build(network()) or b"", build(network(), compatible="AMPERE_PLUS") or b""
    pretend_gpu("11.4")
    log = Log()
    assert load(plan, log) is None
    assert "Version tag does not match" in log.errors[-1]
    pretend_gpu("10.16", gpu="Fake Orin", sm=87)
    assert load(plan, log) is None
    assert "incompatible device" in log.errors[-1]
    assert load(portable) is not None
    pretend_gpu("10.16", gpu="Fake H100")
    log = Log()
    assert load(plan, log) is not None
    assert log.messages[0][0] == "WARNING"
    assert load(b"no plan at all, but long enough", log) is None


def test_a_shape_outside_the_profile_is_refused(fake_gpu: Path) -> None:
    log = Log()
    execution = load(build(network()) or b"", log).create_execution_context()
    assert execution.infer_shapes() == ["x"]
    assert not execution.set_input_shape("x", (9, 3, 8, 8))
    assert "[9, 3, 8, 8]" in log.errors[-1]
    assert execution.set_input_shape("x", (8, 3, 8, 8))
    assert tuple(execution.get_tensor_shape("y")) == (8, 10)


@pytest.mark.parametrize(("crash", "died"), [("abort", signal.SIGABRT), ("segfault", signal.SIGSEGV)])
def test_a_build_can_take_its_process_down(crash: str, died: signal.Signals, pretend_gpu: Pretend) -> None:
    pretend_gpu(crash=crash)
    assert build_elsewhere().wait(60) == -died


def test_a_build_can_hang(pretend_gpu: Pretend) -> None:
    pretend_gpu(hang=True)
    process = build_elsewhere()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.kill()
    process.wait()


def build_elsewhere() -> subprocess.Popen[bytes]:
    """A process that has reached its build."""
    code = """
from tests.fakes.device import build
from tests.fakes.samples import network
print("go", flush=True)
build(network())
"""
    here = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], here])}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"go\n"
    return process


def test_a_build_can_fail_at_a_node(pretend_gpu: Pretend) -> None:
    pretend_gpu(failing_node="skip")
    log = Log()
    assert build(network(), log) is None
    assert log.errors[-1].endswith("(Could not find any implementation for node right + skip + skip.relu.)")


def test_a_build_can_fail_for_networks_of_one_type_only(pretend_gpu: Pretend) -> None:
    pretend_gpu(failing_node="stem", only_with="int8")
    assert build(network()) is not None
    assert build(network(("left",), fp8=True)) is not None
    assert build(network(("left",))) is None
