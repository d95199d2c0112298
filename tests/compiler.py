"""NVIDIA's own compiler, where it is installed: TensorRT for RTX, which needs no GPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from trt_mpq.engine.build import build_engine
from trt_mpq.runtime.tensorrt.flavour import found_version
from trt_mpq.runtime.tensorrt.request import BuildRequest
from trt_mpq.settings import EngineOptions
from trt_mpq.types.engine import EngineBuild, ShapeRange

NO_RTX = "TensorRT for RTX is not installed: pip install '.[rtx]', on Linux x86-64"
NEEDS_RTX = pytest.mark.skipif(found_version("rtx") is None, reason=NO_RTX)


def compiled(onnx: Path, *capabilities: int, shapes: Mapping[str, ShapeRange], **options: object) -> EngineBuild:
    """What it makes of the network in `onnx`, in a process of its own."""
    request = BuildRequest(
        onnx=str(onnx), engine=onnx.with_suffix(".plan").name, typing="strong", shapes=shapes,
        options=EngineOptions.model_validate(options), timing_cache="", flavour="rtx", capabilities=capabilities,
    )  # fmt: skip
    return build_engine(request, onnx.parent)
