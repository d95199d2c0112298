"""The whole way through the child process, on pretended devices."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from tests.fakes.fixtures import PretendGpu, pretend_gpu, trt_version
from tests.networks import mlp
from trt_mpq.engine.build import build_engine
from trt_mpq.runtime.tensorrt.request import BuildRequest
from trt_mpq.settings import EngineOptions
from trt_mpq.types.engine import BuildStatus, ShapeRange

__all__ = ["pretend_gpu", "trt_version"]


def request(folder: Path, version: str) -> BuildRequest:
    onnx.save(mlp(), folder / "net.onnx")
    return BuildRequest(
        onnx=str(folder / "net.onnx"),
        engine="net.plan",
        typing="weak" if version == "8.6" else "strong",
        shapes={"input": ShapeRange((1, 32), (4, 32), (4, 32))},
        options=EngineOptions(),
        timing_cache=str(folder / "caches"),
    )


def test_an_engine_comes_back_with_all_that_belongs_to_it(
    tmp_path: Path, pretend_gpu: PretendGpu, trt_version: str, capfd: pytest.CaptureFixture[str]
) -> None:
    pretend_gpu(trt_version)
    build = build_engine(request(tmp_path, trt_version), tmp_path / "engine")
    assert build.built, build.reason
    assert (build.engine, build.layers) == ("net.plan", "net.layers.json")
    assert build.platform is not None
    assert build.platform.tensorrt.startswith(f"{trt_version}.")
    assert build.size_bytes == (tmp_path / "engine" / "net.plan").stat().st_size
    assert json.loads((tmp_path / "engine" / "net.layers.json").read_text())["Layers"]
    assert sorted(path.name for path in (tmp_path / "engine").iterdir()) == ["net.layers.json", "net.log", "net.plan"]
    assert (tmp_path / "engine" / "net.log").read_text() == ""
    assert len(list((tmp_path / "caches").iterdir())) == 1
    assert capfd.readouterr() == ("", "")


def test_a_builder_that_crashes_is_an_outcome(tmp_path: Path, pretend_gpu: PretendGpu) -> None:
    pretend_gpu(crash="segfault")
    build = build_engine(request(tmp_path, "10.16"), tmp_path / "engine")
    assert (build.status, build.reason) == (BuildStatus.CRASHED, "the build of net.onnx crashed with SIGSEGV")
