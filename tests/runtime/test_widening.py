from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.emit.examples import LEVELS, emitter, feeds, prepared, run_plainly, uniform
from trt_mpq.emit import Emitter
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.runtime.widening import widened
from trt_mpq.types import Precision

RUNTIME = OnnxRuntime(1)
BINADES = (0x3F800000, 0x47000000, 0x00800000, 0x00000000, 0x7F000000)
"""First bit patterns of binades: 1 to 2, around the largest FP16, the smallest normal, subnormals, the largest."""


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("opset", [13, 17, 22])
def test_a_cast_there_and_back_rounds_to_nearest_even(level: str, opset: int) -> None:
    """The reference flavour rests on it: no level drops the pair, or rounds it otherwise."""
    body = (
        "(float[n] x) => (float[n] y, float[n] z) "
        "{ a = Cast<to=16>(x) y = Cast<to=1>(a) b = Neg(x) c = Cast<to=16>(b) z = Cast<to=1>(c) }"
    )
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> g {body}')
    bits = np.concatenate([np.arange(start, start + (1 << 23), 257, dtype=np.uint32) for start in BINADES])
    ties = np.concatenate([np.arange(start, start + (1 << 23), 1 << 15, dtype=np.uint32) for start in BINADES])
    x = np.concatenate([bits, ties]).view(np.float32)
    found = run_plainly(proto.SerializeToString(), {"x": x}, level, qdq_passes=False)
    with np.errstate(over="ignore"):
        expected = x.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(found["y"], expected)
    np.testing.assert_array_equal(found["z"], -expected)
    assert not np.array_equal(expected, x)


def bf16_emitter(name: str) -> Emitter:
    network = prepared(name)
    grouping = replace(network.grouping, top=Precision.BF16)
    return Emitter(network.graph, grouping, network.calibrated(network.samples(feeds(name)["input"])))


def test_onnx_runtime_cannot_run_bf16_as_it_is() -> None:
    """If it ever can, this module is not needed."""
    strong = bf16_emitter("residual_cnn").strong(uniform("residual_cnn", Precision.INT8))
    with pytest.raises(Exception, match="NOT_IMPLEMENTED"):
        run_plainly(strong, feeds("residual_cnn"))


@pytest.mark.parametrize("name", ["residual_cnn", "crossroads", "bert"])
@pytest.mark.parametrize("precision", [Precision.BF16, Precision.INT8])
def test_a_stored_network_computes_what_its_reference_does(name: str, precision: Precision, tmp_path: Path) -> None:
    """Rounded alike, tensor by tensor, and with the same scales."""
    source = bf16_emitter(name)
    ir.save(source.strong(uniform(name, precision)), tmp_path / "typed.onnx")
    expected = RUNTIME.load(source.reference(uniform(name, precision))).run(feeds(name))
    actual = RUNTIME.load(tmp_path / "typed.onnx").run(feeds(name))
    assert expected.keys() == actual.keys()
    for output, value in expected.items():
        np.testing.assert_array_equal(actual[output], value)


def test_what_holds_no_bf16_or_only_casts_to_it_is_left_alone() -> None:
    for graph, alone in (
        (emitter("mlp").strong(uniform("mlp", Precision.INT8)), True),
        (bf16_emitter("mlp").reference(uniform("mlp", Precision.BF16)), True),
        (bf16_emitter("mlp").strong(uniform("mlp", Precision.BF16)), False),
    ):
        assert (widened(graph) is graph) is alone


def test_the_copy_has_bf16_between_casts_only() -> None:
    graph = widened(bf16_emitter("crossroads").strong(uniform("crossroads", Precision.INT8)))
    narrow = [node for node in graph.graph for value in node.outputs if value.dtype is ir.DataType.BFLOAT16]
    assert {node.op_type for node in narrow} == {"Cast"}
    assert {user.op_type for node in narrow for user, _ in node.outputs[0].uses()} == {"Cast"}
    assert not any(value.dtype is ir.DataType.BFLOAT16 for value in graph.graph.initializers.values())
    onnx.checker.check_model(ir.to_proto(graph).SerializeToString(), full_check=True)
