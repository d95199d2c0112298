"""NVIDIA's compiler in whole runs: the engine that needs no GPU, the check, refusals, and all that goes wrong."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from tests.engine.test_compiling import Played, quantized
from tests.runs import Recorder, slow_device, start, tiny_cnn, write_data
from trt_mpq.engine import compiling
from trt_mpq.engine.manifest import read_manifest, write_manifest
from trt_mpq.engine.shipping import is_shipped
from trt_mpq.errors import MissingDependencyError, RuntimeFailure
from trt_mpq.pipeline import compiler
from trt_mpq.pipeline.device_run import DeviceRun
from trt_mpq.report.data import report_from_json
from trt_mpq.report.verdict import compiled
from trt_mpq.settings import settings_from
from trt_mpq.types import Precision
from trt_mpq.types.compilation import Compilation
from trt_mpq.types.engine import AheadOfTime, BuildStatus, Platform

QUICKEST = {"search": "uniform", "calibration": "minmax", "bias_correction": False}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    return write_data(tmp_path, tiny_cnn())


def report_of(files: dict[str, str], folder: Path, **settings: object):
    return start(files, folder, **{**QUICKEST, **settings}).report()


def said(made: Compilation | None) -> str:
    assert made is not None
    return " ".join(compiled(made))


def test_a_build_without_a_gpu_ends_with_an_engine_that_nvidias_compiler_made(
    files: dict[str, str], tmp_path: Path, nvidia_compiler: None
) -> None:
    run = tmp_path / "run"
    report = report_of(files, run, device="l4", engine={"build": "always"})
    made = report.compilation
    assert made is not None
    assert (made.build.status, made.capabilities, made.raised) == (BuildStatus.BUILT, (89,), {})
    manifest = read_manifest(run / "engine" / "manifest.json")
    assert isinstance(manifest.platform, AheadOfTime)
    assert (manifest.platform.flavour, manifest.platform.capabilities) == ("rtx", (89,))
    assert manifest.plan.digest == report.plan.digest
    assert manifest.engine_sha256 == made.engine_sha256
    assert is_shipped(run, made.engine_sha256)
    assert (run / "engine" / "network.onnx").read_bytes() == (run / "typed.onnx").read_bytes()
    assert f"TensorRT for RTX {manifest.platform.tensorrt}, made the engine for compute capability 8.9" in said(made)
    assert report_from_json((run / "report.json").read_text()).compilation == made
    assert "made the engine for compute capability 8.9" in (run / "report.html").read_text()
    assert [text for text in report.not_done if text.startswith("no engine was timed")]

    settings = settings_from({**files, "device": "rtx5090"}, "test")
    again = DeviceRun(settings, run, Recorder()).ship(evaluate=False)
    assert isinstance(again, Compilation)
    assert read_manifest(run / "engine" / "manifest.json").platform == again.build.platform
    assert again.capabilities == (120,)


def test_the_engine_that_a_gpu_built_of_the_same_plan_stays(
    files: dict[str, str], tmp_path: Path, nvidia_compiler: None
) -> None:
    report_of(files, tmp_path / "run", device="l4", engine={"build": "always"})
    path = tmp_path / "run" / "engine" / "manifest.json"
    built = replace(read_manifest(path), platform=Platform("NVIDIA L4", 89, "10.16.1.11", "12.8", "570.86"))
    write_manifest(path, built)
    observer = Recorder()
    DeviceRun(settings_from({**files, "device": "rtx5090"}, "test"), tmp_path / "run", observer).ship(evaluate=False)
    assert read_manifest(path) == built
    assert "note the engine that a GPU built of the same plan stays where it is" in observer.events


def test_a_gpu_that_the_compiler_does_not_serve_gets_a_check_and_no_engine(
    files: dict[str, str], tmp_path: Path, nvidia_compiler: None
) -> None:
    made = report_of(files, tmp_path / "run", device="h200", precisions="fp16,fp8").compilation
    assert made is not None
    assert (made.build.built, made.capabilities, made.engine_sha256) == (True, (89,), None)
    assert "a check, no engine for h200 (9.0), which it does not serve" in said(made)
    assert not (tmp_path / "run" / "engine" / "engine.plan").exists()
    with pytest.raises(RuntimeFailure, match=r"makes no engines for h200 \(compute capability 9\.0\)$"):
        report_of(files, tmp_path / "run", device="h200", engine={"build": "always"})


@pytest.mark.parametrize(
    ("options", "status", "sentence"),
    [
        ({"compile_timeout_s": 0.01}, BuildStatus.TIMED_OUT, "was stopped after 0.01 s (compile_timeout_s)"),
        ({"compile_memory_mib": 8}, BuildStatus.OUT_OF_MEMORY, "at the limit of 8 MiB (compile_memory_mib)"),
    ],
)
def test_a_compiler_at_its_limits_gives_no_verdict_and_the_networks_are_delivered(
    options: dict[str, object],
    status: BuildStatus,
    sentence: str,
    files: dict[str, str],
    tmp_path: Path,
    nvidia_compiler: None,
) -> None:
    made = report_of(files, tmp_path / "run", device="l4", engine=options).compilation
    assert made is not None
    assert made.build.status is status
    assert sentence in said(made)
    assert said(made).startswith("NVIDIA's compiler gave no verdict: the compilation of compiled.onnx ")
    assert (tmp_path / "run" / "typed.onnx").exists()
    assert not (tmp_path / "run" / "engine" / "engine.plan").exists()


def killed_compiler(stop: threading.Event) -> None:
    """Kill the process of this one's children that has loaded NVIDIA's library, as the system does out of memory."""
    threads = Path(f"/proc/{os.getpid()}/task")
    while not stop.is_set():
        for children in threads.glob("*/children"):
            with suppress(OSError):  # a thread or child may end between being seen and being read
                for child in children.read_text().split():
                    if "libtensorrt_rtx" in Path(f"/proc/{child}/maps").read_text():
                        os.kill(int(child), signal.SIGKILL)
        time.sleep(0.001)


def test_a_compiler_that_is_killed_gives_no_verdict_and_the_networks_are_delivered(
    files: dict[str, str], tmp_path: Path, nvidia_compiler: None
) -> None:
    stop = threading.Event()
    killer = threading.Thread(target=killed_compiler, args=(stop,))
    killer.start()
    try:
        made = report_of(files, tmp_path / "run", device="l4").compilation
    finally:
        stop.set()
        killer.join()
    assert made is not None
    assert made.build.status is BuildStatus.CRASHED
    assert "compiled.onnx was killed (SIGKILL), which the system does when memory runs out" in said(made)
    assert (tmp_path / "run" / "typed.onnx").exists()
    assert not (tmp_path / "run" / "engine" / "engine.plan").exists()


def test_a_compiler_that_is_half_installed_is_told_in_a_sentence(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib").mkdir()
    broken = "raise ImportError('libtensorrt_rtx.so.1: cannot open shared object file')"
    (tmp_path / "lib" / "tensorrt_rtx_bindings.py").write_text(broken)
    monkeypatch.syspath_prepend(tmp_path / "lib")
    monkeypatch.setattr(compiler, "found_version", lambda flavour: "1.7")
    report = report_of(files, tmp_path / "run", device="l4")
    assert "cannot be loaded (libtensorrt_rtx.so.1: cannot open shared object file)" in said(report.compilation)
    assert "pip install 'tensorrt-rtx-cu12-bindings" in said(report.compilation)
    assert (tmp_path / "run" / "typed.onnx").exists()
    with pytest.raises(RuntimeFailure, match="no engine was made: tensorrt_rtx_bindings is installed but"):
        report_of(files, tmp_path / "run", device="l4", engine={"build": "always"})


def test_without_the_compiler_a_run_is_as_it_was(files: dict[str, str], tmp_path: Path) -> None:
    report = report_of(files, tmp_path / "run", device="l4")
    assert report.compilation is None
    assert [text for text in report.not_done if text.startswith("no engine was built or timed")]
    with pytest.raises(MissingDependencyError, match="tensorrt is not installed"):
        report_of(files, tmp_path / "run", device="l4", engine={"build": "always"})


def test_no_compile_leaves_the_compiler_alone(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "found_version", lambda flavour: "1.7")
    assert report_of(files, tmp_path / "run", device="l4", engine={"compile": False}).compilation is None


def test_what_the_compiler_refuses_goes_back_and_is_scored_and_delivered_anew(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = Played(lambda model: "no kernel for it" if "first" in quantized(model) else "")
    monkeypatch.setattr(compiler, "found_version", lambda flavour: "1.7")
    monkeypatch.setattr(compiling, "build_engine", played)
    device = slow_device(tmp_path / "slow.toml")
    report = report_of(files, tmp_path / "run", device=device, target_accuracy=0.5)
    made = report.compilation
    assert made is not None
    assert made.raised == {"first": Precision.INT8}
    assert report.plan.assignments["first"] is Precision.FP16
    assert report.plan.assignments["second"] is Precision.INT8
    assert "first" not in quantized(onnx.load(tmp_path / "run" / "typed.onnx"))
    assert "1 group is back in high precision, refused in INT8: first" in said(made)
    assert "no kernel for it" in said(made)
    most = max(step.counts.get(Precision.INT8, 0) for step in report.search.path)
    refused = next(step for step in report.search.path if step.counts.get(Precision.INT8) == most)
    assert report.search.path[-1].plan == report.plan.digest
    assert report.latency_ms.plan > refused.latency_ms, "what it costs is told by the latency of the plan"
    assert [text for text in report.warnings if text.startswith("what the compiler refuses costs ")]
    reason = next(row.reason for row in report.group_rows if row.id == "first")
    assert "the compiler refuses" in reason

    seen = played.seen
    assert report_of(files, tmp_path / "run", device=device, target_accuracy=0.5).plan == report.plan
    assert played.seen == seen, "a run that is resumed compiles nothing"
