"""The process of a build without TensorRT: it says so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from trt_mpq.engine.build import build_engine
from trt_mpq.errors import MissingDependencyError
from trt_mpq.runtime.tensorrt.request import BuildRequest
from trt_mpq.settings import EngineOptions

REQUEST = BuildRequest(
    onnx="typed.onnx", engine="plan.plan", typing="strong", options=EngineOptions(), timing_cache="caches"
)


def test_without_tensorrt_the_real_process_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The module is hidden for this test, so it holds where TensorRT is installed as well."""
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "tensorrt.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'tensorrt'\", name='tensorrt')"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path / "hidden"), *sys.path])
    with pytest.raises(MissingDependencyError, match=r"tensorrt is not installed.*pip install 'tensorrt>=8\.6'"):
        build_engine(REQUEST, tmp_path / "engine")
    assert not any((tmp_path / "engine").glob("*.plan"))
