"""Quantized files are taken apart into the network that they compute and the magnitudes at which they clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.emit.examples import emitter, feeds, prepared, uniform
from tests.networks import parsed
from tests.prepared import RUNTIME, normal
from trt_mpq.calibrate.ranges import spread_given
from trt_mpq.calibrate.restrictions import restrict_to_given
from trt_mpq.errors import ModelError
from trt_mpq.model import prepare_model, save_graph
from trt_mpq.settings import settings_from
from trt_mpq.types import Model, Precision

CODES = np.random.default_rng(0).integers(-127, 128, (4, 6)).astype(np.int8)
STEPS = np.float32([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
CONSTANTS = {
    "k": CODES, "ks": STEPS, "kz": np.zeros(6, np.int8), "s": np.float32(0.02), "z": np.int8(0),
    "us": np.float32(0.05), "uz": np.uint8(0), "w": CODES * STEPS + np.float32(0.02), "middle": np.uint8(100),
}  # fmt: skip


def taken(folder: Path, text: str) -> tuple[Model, ir.Model, dict[str, np.ndarray]]:
    """What is known of the prepared model, its graph, and its outputs for a few rows."""
    head = '<ir_version: 9, opset_import: ["":19]> g (float[N,4] x) => (float[N,6] y)'
    onnx.save(parsed(f"{head} {{ {text} }}", CONSTANTS), folder / "source.onnx")
    model = prepare_model(folder / "source.onnx", folder / "prepared.onnx", from_qdq=True)
    graph = ir.load(folder / "prepared.onnx")
    return model, graph, RUNTIME.load(graph).run({"x": normal(5, 4)})


INPUT = "q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)"


def test_stored_codes_become_the_values_that_they_stand_for(tmp_path: Path) -> None:
    model, graph, outputs = taken(tmp_path, f"{INPUT} v = DequantizeLinear <axis = 1> (k, ks, kz) y = MatMul (d, v)")
    assert [node.op_type for node in graph.graph] == ["MatMul"]
    assert model.amax == {"x": pytest.approx(127 * 0.02)}
    np.testing.assert_allclose(outputs["y"], normal(5, 4) @ (CODES * STEPS), rtol=1e-5, atol=1e-5)


def test_quantized_floats_become_what_the_quantizer_makes_of_them(tmp_path: Path) -> None:
    weight = "c = QuantizeLinear <axis = 1> (w, ks, kz) v = DequantizeLinear <axis = 1> (c, ks, kz)"
    _, graph, outputs = taken(tmp_path, f"{INPUT} {weight} y = MatMul (d, v)")
    assert [node.op_type for node in graph.graph] == ["MatMul"]
    np.testing.assert_allclose(outputs["y"], normal(5, 4) @ (CODES * STEPS), rtol=1e-5, atol=1e-4)


def test_codes_from_zero_on_rectify_where_nothing_else_does(tmp_path: Path) -> None:
    """ONNX Runtime leaves out a Relu before a quantizer that cuts off at zero anyway."""
    tail = "{} p = QuantizeLinear (a, us, uz) y = DequantizeLinear (p, us, uz)"
    for before, operators in (
        ("a = MatMul (x, v)", ["MatMul", "Relu"]),
        ("m = MatMul (x, v) a = Relu (m)", ["MatMul", "Relu"]),
    ):
        folder = tmp_path / operators[-1] / before[:1]
        folder.mkdir(parents=True)
        model, graph, outputs = taken(folder, f"v = DequantizeLinear <axis = 1> (k, ks, kz) {tail.format(before)}")
        assert [node.op_type for node in graph.graph] == operators
        assert list(model.amax.values()) == pytest.approx([255 * 0.05] * len(model.amax))
        np.testing.assert_allclose(outputs["y"], np.maximum(normal(5, 4) @ (CODES * STEPS), 0), rtol=1e-5, atol=1e-5)


def test_a_zero_point_makes_the_range_that_of_the_larger_side(tmp_path: Path) -> None:
    model, _, _ = taken(
        tmp_path,
        "q = QuantizeLinear (x, us, middle) d = DequantizeLinear (q, us, middle) "
        "v = DequantizeLinear <axis = 1> (k, ks, kz) y = MatMul (d, v)",
    )
    assert model.amax == {"x": pytest.approx(155 * 0.05)}


def test_a_scale_that_is_computed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"\(QuantizeLinear\) has a scale that is computed"):
        taken(tmp_path, "m = ReduceMax <keepdims = 0> (x) q = QuantizeLinear (x, m, z) d = DequantizeLinear (q, m, z) "
              "v = DequantizeLinear <axis = 1> (k, ks, kz) y = MatMul (d, v)")  # fmt: skip


def test_our_own_file_gives_its_ranges_and_weights_back(tmp_path: Path) -> None:
    """Scales are stored in FP16 there, so to its precision."""
    own, plan = emitter("residual_cnn"), uniform("residual_cnn", Precision.INT8)
    save_graph(own.strong(plan), tmp_path / "typed.onnx")
    model = prepare_model(tmp_path / "typed.onnx", tmp_path / "prepared.onnx", from_qdq=True)
    network = prepared("residual_cnn")
    ranges = network.calibrated(network.samples(feeds("residual_cnn")["input"])).tensors
    known = spread_given(model.amax, network.grouping)
    for group in network.grouping.groups:
        for site in group.inputs:
            assert known[site.tensor] == pytest.approx(ranges[site.tensor].amax[Precision.INT8], rel=2e-3)
    exact, found = (
        RUNTIME.load(path).run(feeds("residual_cnn"))["output"] for path in (network.graph, tmp_path / "prepared.onnx")
    )
    assert np.abs(found - exact).max() < 0.05 * np.abs(exact).max()


def test_what_the_file_does_not_quantize_stays_out_of_8_bit() -> None:
    grouping = prepared("residual_cnn").grouping
    first, *others = grouping.groups
    given = {site.tensor: 1.0 for site in first.inputs}
    restricted = {group.id: group for group in restrict_to_given(grouping, given).groups}
    assert restricted[first.id].allows(Precision.INT8)
    for group in others:
        assert restricted[group.id].excluded[Precision.INT8].startswith("the file does not quantize tensor ")


def test_tensors_that_move_the_same_values_share_a_range() -> None:
    grouping = prepared("residual_cnn").grouping
    for names in grouping.shared_scales:
        assert set(spread_given({names[0]: 3.0}, grouping)) >= set(names)


@pytest.mark.parametrize("name", ["equalize", "smooth", "adaround"])
def test_scales_of_a_file_hold_for_its_tensors_only(name: str) -> None:
    with pytest.raises(Exception, match="excludes from_qdq"):
        settings_from({"model": "m.onnx", "from_qdq": True, name: True}, "test")
