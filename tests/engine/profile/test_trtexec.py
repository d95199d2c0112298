"""The trtexec command of each version, against its help text."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from trt_mpq.engine.profile.trtexec import trtexec_command
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Precision
from trt_mpq.types.engine import ShapeRange

SHAPES = {"input": ShapeRange((1, 3, 8, 8), (16, 3, 8, 8), (32, 3, 8, 8)), "mask": ShapeRange((1, 8), (16, 8), (32, 8))}


def test_the_command_for_11() -> None:
    command = trtexec_command("typed.onnx", EngineOptions(), "strong", SHAPES, 11)
    assert command == (
        "trtexec --onnx=typed.onnx --minShapes=input:1x3x8x8,mask:1x8 --optShapes=input:16x3x8x8,mask:16x8 "
        "--maxShapes=input:32x3x8x8,mask:32x8 --shapes=input:16x3x8x8,mask:16x8 --profilingVerbosity=detailed "
        "--noTF32 --warmUp=200 --duration=3 --percentile=90,95,99 --dumpProfile --includeDataTransfers"
    )


def test_the_command_for_10() -> None:
    command = trtexec_command("typed.onnx", EngineOptions(), "strong", {}, 10)
    assert command == (
        "trtexec --onnx=typed.onnx --stronglyTyped --profilingVerbosity=detailed --noTF32 --warmUp=200 --duration=3 "
        "--percentile=90,95,99 --dumpProfile --useSpinWait --separateProfileRun --useCudaGraph"
    )


def test_the_command_for_8_with_constraints() -> None:
    constraints = {"stem": Precision.FP16, "head": Precision.INT8, "last": Precision.FP32}
    command = trtexec_command("weak.onnx", EngineOptions(tf32=True, cuda_graph=False), "weak", {}, 8, constraints)
    assert command == (
        "trtexec --onnx=weak.onnx --fp16 --int8 --precisionConstraints=obey "
        "--layerPrecisions=stem:fp16,head:int8,last:fp32 --profilingVerbosity=detailed --warmUp=200 --duration=3 "
        "--percentile=90,95,99 --dumpProfile --useSpinWait --separateProfileRun"
    )


def test_a_weak_network_with_qdq_may_use_its_8_bit_format() -> None:
    command = trtexec_command("weak.onnx", EngineOptions(), "weak", {}, 8, {"stem": Precision.FP16}, [Precision.INT8])
    assert "--fp16 --int8 --precisionConstraints=obey --layerPrecisions=stem:fp16 " in command
    typed = trtexec_command("typed.onnx", EngineOptions(), "strong", {}, 10, quantized=[Precision.INT8])
    assert "--int8" not in typed


def test_only_11_has_to_be_told_to_leave_graphs_out() -> None:
    options = EngineOptions(cuda_graph=False)
    assert "--noCudaGraph" in trtexec_command("m.onnx", options, "strong", {}, 11)
    for version in (10, 11):
        assert "--useCudaGraph" not in trtexec_command("m.onnx", options, "strong", {}, version)
    assert "--noCudaGraph" not in trtexec_command("m.onnx", options, "strong", {}, 10)


def test_every_option_of_the_builder_is_passed_on() -> None:
    options = EngineOptions(
        workspace_mib=512, optimization_level=5, version_compatible=True, hardware_compatible="ampere_plus", refit=True,
        sparsity=True, dla_core=1, plugins=(Path("a.so"), Path("b.so")), warm_up_ms=50.5, rounds=10, round_ms=250.0,
    )  # fmt: skip
    words = set(shlex.split(trtexec_command("m.onnx", options, "strong", {}, 10)))
    assert words >= {
        "--memPoolSize=workspace:512", "--builderOptimizationLevel=5", "--versionCompatible",
        "--hardwareCompatibilityLevel=ampere+", "--refit", "--sparsity=enable", "--useDLACore=1", "--allowGPUFallback",
        "--staticPlugins=a.so", "--staticPlugins=b.so", "--warmUp=50.5", "--duration=2.5",
    }  # fmt: skip


def test_the_same_compute_capability_is_passed_on() -> None:
    options = EngineOptions(hardware_compatible="same_compute_capability")
    flag = "--hardwareCompatibilityLevel=sameComputeCapability"
    assert flag in trtexec_command("m.onnx", options, "strong", {}, 10)


def test_a_path_with_a_space_survives_the_shell() -> None:
    words = shlex.split(trtexec_command(Path("my models/typed.onnx"), EngineOptions(), "strong", {}, 11))
    assert words[1] == "--onnx=my models/typed.onnx"


@pytest.mark.parametrize(("typing", "version"), [("strong", 8), ("weak", 11)])
def test_a_version_without_that_typing_has_no_command(typing: str, version: int) -> None:
    with pytest.raises(ValueError, match=f"trtexec {version} has no {typing}ly typed networks"):
        trtexec_command("m.onnx", EngineOptions(), typing, {}, version)  # type: ignore[arg-type]
