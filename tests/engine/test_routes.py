"""What is left to do on a device is said exactly: which TensorRT, which file, which command, or why not."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests.runs import start, tiny_cnn, write_data
from trt_mpq import doctor
from trt_mpq.api.machine import routes_here
from trt_mpq.cli import app
from trt_mpq.cli.doctor import _judgement, _run_table
from trt_mpq.doctor import Diagnosis, Gpu, PackageState, _parse_capabilities
from trt_mpq.engine.routes import Delivered, routes_of
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Precision
from trt_mpq.types.engine import ShapeRange

FP16, FP8, INT8 = Precision.FP16, Precision.FP8, Precision.INT8
SHAPES = {"x": ShapeRange((1, 3), (8, 3), (32, 3))}
ORIN = Delivered((FP16, INT8), {"head": FP16}, "", SHAPES, EngineOptions())


def flags(command: str) -> dict[str, str]:
    words = shlex.split(command)
    assert words[0] == "trtexec"
    return {word.partition("=")[0]: word.partition("=")[2] for word in words[1:]}


def test_an_orin_builds_by_every_jetpack_that_it_may_have() -> None:
    routes = routes_of(ORIN, 87)
    assert [(route.runtime, route.network) for route in routes] == [
        ("TensorRT 8.6 (JetPack 6.0)", "weak.onnx"),
        ("TensorRT 10.3 (JetPack 6.1 and 6.2)", "weak.onnx"),
        ("TensorRT 10.3 (JetPack 6.1 and 6.2)", "typed.onnx"),
        ("TensorRT 11.4 (JetPack 7.2.2 and later, AGX Orin)", "typed.onnx"),
    ]
    for route in routes:
        said = flags(route.command)
        assert said["--onnx"] == route.network
        assert said["--saveEngine"] == "model.plan"
        assert (said["--minShapes"], said["--optShapes"], said["--maxShapes"]) == ("x:1x3", "x:8x3", "x:32x3")
    weak, _, typed, newest = (flags(route.command) for route in routes)
    assert weak["--layerPrecisions"] == "head:fp16"
    assert {"--fp16", "--int8"} <= weak.keys()
    assert "--stronglyTyped" in typed
    assert "--stronglyTyped" not in newest, "TensorRT 11 knows nothing else"
    assert "fully from 10.12 on" in routes[2].note


def test_fp8_says_what_it_needs() -> None:
    routes = routes_of(replace(ORIN, held=(FP16, FP8), constraints=None, weak_missing="INT8 only"), 87)
    assert {route.refusal for route in routes if route.network == "weak.onnx"} == {"INT8 only"}
    assert {route.refusal for route in routes if route.network == "typed.onnx"} == {
        "FP8 needs compute capability 8.9, this has 8.7"
    }
    assert not any(route.command for route in routes)


def test_a_blackwell_has_no_old_tensorrt() -> None:
    assert [route.runtime for route in routes_of(ORIN, 120)] == [
        "TensorRT 10.12 (and later)",
        "TensorRT 11.0 (and later)",
    ]
    assert "TensorRT 8.6" in [route.runtime for route in routes_of(ORIN, 89)]


def test_names_that_trtexec_takes_apart_are_built_by_us() -> None:
    weak = routes_of(replace(ORIN, constraints={"a:0": FP16}), 87)[0]
    assert weak.command == "trt-mpq engine ."
    assert "takes names with , or : apart" in weak.note


def machine(tensorrt: str | None, *, jetson: str | None = None, gpus: tuple[Gpu, ...] = ()) -> Diagnosis:
    packages = (PackageState("tensorrt", tensorrt, False, "building", "apt"),)
    return Diagnosis("3.10", "Linux", "1", packages, gpus, None, jetson)


def test_a_jetson_knows_its_tensorrt() -> None:
    orin = machine(None, jetson="R36.4.3")
    assert (orin.tensorrt, orin.compute_capability) == ((10, 3), 87)
    assert orin.machine == "Jetson with JetPack 6.1 or 6.2"
    assert machine("10.7.0", jetson="R36.4.3").tensorrt == (10, 7)
    assert (machine(None).tensorrt, machine(None).compute_capability) == (None, None)
    assert machine(None, gpus=(Gpu("NVIDIA L4", "1", 1, 89),)).compute_capability == 89


def test_compute_capabilities_are_read() -> None:
    assert _parse_capabilities("8.9\n12.0\n[N/A]\n") == [89, 120, None]


@pytest.fixture(scope="module")
def run(tmp_path_factory: Any) -> Path:
    folder = tmp_path_factory.mktemp("doctor")
    files = write_data(folder, tiny_cnn())
    engine = {"build": "never", "compile": False}
    report = start(files, folder / "run", device="orin-agx", engine=engine, target_accuracy=0.9).report()
    assert [route.network for route in report.routes] == ["weak.onnx", "weak.onnx", "typed.onnx", "typed.onnx"]
    return folder / "run"


def test_a_machine_is_judged_for_a_run(run: Path) -> None:
    orin = machine(None, jetson="R36.4.3")
    said = list(_judgement(routes_here(run, orin), str(run), orin))
    assert said[0].startswith(
        "this Jetson with JetPack 6.1 or 6.2 with TensorRT 10.3 can build weak.onnx and typed.onnx"
    )
    command = said[said.index("typed.onnx:") + 1]
    assert command.startswith("trtexec --onnx=typed.onnx")
    narrow = Console(file=StringIO(), width=40)
    narrow.print(_run_table(routes_here(run, orin), str(run), orin), crop=False)
    assert command in narrow.file.getvalue().splitlines(), "to be copied whole"  # type: ignore[attr-defined]
    old = machine("8.6.2", jetson="R36.3.0")
    assert [route.network for route in routes_here(run, old)] == ["weak.onnx"]
    bare = machine(None)
    assert next(_judgement(routes_here(run, bare), str(run), bare)).startswith(
        "this machine without a GPU has no TensorRT and builds no engine of"
    )
    assert len(routes_here(run, bare)) == 4, "what the device of the run could"


def test_the_command_judges_this_machine(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def here() -> Diagnosis:
        return machine("11.4.0", gpus=(Gpu("NVIDIA L4", "1", 1, 89),))

    monkeypatch.setattr(doctor, "diagnose", here)
    shown = CliRunner().invoke(app, ["doctor", str(run)], env={"COLUMNS": "400"})
    assert shown.exit_code == 0, shown.output
    assert f"this NVIDIA L4 with TensorRT 11.4 can build typed.onnx: `trt-mpq engine {run}`" in shown.stdout
    told = json.loads(CliRunner().invoke(app, ["doctor", str(run), "--json"]).stdout)
    assert [route["network"] for route in told["run"]] == ["typed.onnx"]
    missing = CliRunner().invoke(app, ["doctor", "nowhere"])
    assert missing.exit_code == 2
    assert "nowhere is no run folder" in missing.stderr
