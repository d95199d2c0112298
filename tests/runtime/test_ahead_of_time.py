"""TensorRT for RTX compiles what is emitted, on a machine without a GPU: NVIDIA's parser and compiler, no fake."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tests.compiler import NEEDS_RTX, compiled
from tests.networks import residual_cnn
from tests.prepared import normal, prepare
from trt_mpq.model import save_graph
from trt_mpq.runtime.tensorrt.request import BuildRequest
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Precision
from trt_mpq.types.engine import AheadOfTime, BuildStatus, ShapeRange

pytestmark = NEEDS_RTX
SHAPES = {"input": ShapeRange((1, 3, 16, 16), (8, 3, 16, 16), (8, 3, 16, 16))}


def typed(precision: Precision, folder: Path) -> Path:
    """A residual network with every group in `precision`."""
    prepared = prepare(residual_cnn())
    network = prepared.network(prepared.samples(normal(8, 3, 16, 16)))
    path = folder / "typed.onnx"
    save_graph(network.emitter().strong(network.grouping.uniform(precision)), path)
    return path


def test_one_engine_is_compiled_for_many_capabilities(tmp_path: Path) -> None:
    build = compiled(typed(Precision.INT8, tmp_path), 75, 80, 86, 89, 120, 121, shapes=SHAPES, dla_core=0)
    assert (build.status, build.reason, build.errors) == (BuildStatus.BUILT, "", ())
    assert isinstance(build.platform, AheadOfTime)
    assert build.platform.capabilities == (75, 80, 86, 89, 120, 121)
    assert (tmp_path / "typed.plan").stat().st_size == build.size_bytes > 0
    assert build.unused == ("dla_core: TensorRT for RTX has no such option",)


def test_fp8_is_compiled_where_the_gpu_has_it_and_refused_elsewhere(tmp_path: Path) -> None:
    network = typed(Precision.FP8, tmp_path)
    assert compiled(network, 89, shapes=SHAPES).built
    refused = compiled(network, 86, shapes=SHAPES)
    assert refused.status is BuildStatus.FAILED
    assert refused.reason.startswith("TensorRT for RTX 1.")
    assert "fp8" in refused.reason
    assert refused.reason.endswith(refused.errors[0])
    assert not (tmp_path / "typed.plan").exists()


def test_what_the_parser_refuses_is_told_with_its_node(tmp_path: Path) -> None:
    node = helper.make_node("NoSuchOperator", ["input"], ["output"], name="strange")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("input", "output")]
    path = tmp_path / "typed.onnx"
    onnx.save(helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:])), path)
    refused = compiled(path, 89, shapes={})
    assert refused.status is BuildStatus.FAILED
    assert "cannot parse typed.onnx: node strange (NoSuchOperator): " in refused.reason


@pytest.mark.parametrize(("flavour", "capabilities"), [("rtx", ()), ("tensorrt", (89,))])
def test_only_rtx_compiles_for_a_gpu_that_is_not_there(flavour: str, capabilities: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="compiles for compute capabilities"):
        BuildRequest(
            onnx="x", engine="x.plan", typing="strong", options=EngineOptions(), timing_cache="",
            flavour=flavour, capabilities=capabilities,  # type: ignore[arg-type]
        )  # fmt: skip
