"""The two halves of a run on two machines: searched on one, taken to an engine on another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.engine.deployments import HERE, MODELLED, QUICK_FLAGS, QUICK_TIMING, Command, Searched, report_of
from tests.fakes.fixtures import PretendGpu
from tests.runs import Recorder, start, tiny_cnn, write_data
from trt_mpq.artifacts.files import sha256_of
from trt_mpq.dataset.arrays import load_npz
from trt_mpq.errors import RuntimeFailure
from trt_mpq.report.data import report_from_json


def test_a_run_folder_is_all_the_device_needs(travelled: Path, pretend_gpu: PretendGpu, command: Command) -> None:
    pretend_gpu("11.4")
    said = command("engine", travelled, *QUICK_FLAGS)
    assert any(line.startswith("Shipped: the plan, ") for line in said.splitlines())
    assert "the task score through the engine was not measured" in said
    assert command("engine", travelled, *QUICK_FLAGS, "--eval", "/nowhere/eval.npz", code=2).startswith("error: ")


def test_an_engine_runs_on_samples(travelled: Path, pretend_gpu: PretendGpu, command: Command) -> None:
    pretend_gpu("10.16")
    command("engine", travelled, *QUICK_FLAGS)
    command("run", travelled, "--input", travelled / "samples.npz", "-o", travelled / "outputs.npz")
    from trt_mpq.runtime.onnxruntime import OnnxRuntime

    expected = OnnxRuntime(1).load(travelled / "engine/network.onnx")
    given = load_npz(travelled / "samples.npz")["input"]
    outputs = load_npz(travelled / "outputs.npz")
    np.testing.assert_allclose(outputs["output"], expected.run({"input": given})["output"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("version", "behaviour", "message"),
    [
        ("11.4", {}, "built for TensorRT 10.16"),
        ("10.16", {"gpu": "Fake L4", "sm": 89}, "was built for Fake H200"),
    ],
)
def test_an_engine_of_another_machine_is_refused(
    travelled: Path,
    pretend_gpu: PretendGpu,
    command: Command,
    version: str,
    behaviour: dict[str, object],
    message: str,
) -> None:
    pretend_gpu("10.16")
    command("engine", travelled, *QUICK_FLAGS)
    pretend_gpu(version, **behaviour)
    said = command("run", travelled, "--input", travelled / "samples.npz", "-o", travelled / "o.npz", code=2)
    assert message in said
    assert "build the engine anew with `trt-mpq engine RUN_DIR` here" in said
    assert said.count("\n") == 1
    assert not (travelled / "o.npz").exists()


def test_a_changed_engine_is_refused(travelled: Path, pretend_gpu: PretendGpu, command: Command) -> None:
    pretend_gpu("10.16")
    command("engine", travelled, *QUICK_FLAGS)
    engine = travelled / "engine/engine.plan"
    content = bytearray(engine.read_bytes())
    content[-1] ^= 1
    engine.write_bytes(bytes(content))
    assert "was changed" in command("run", engine, "--input", travelled / "samples.npz", code=2)
    (travelled / "engine/manifest.json").unlink()
    assert "manifest.json is missing" in command("run", engine, "--input", travelled / "samples.npz", code=2)


@pytest.mark.parametrize("damage", ["changed", "lost"])
@pytest.mark.parametrize("name", ["engine.plan", "manifest.json", "network.onnx"])
def test_what_is_damaged_is_made_anew_by_the_command_that_messages_name(
    travelled: Path, pretend_gpu: PretendGpu, command: Command, name: str, damage: str
) -> None:
    pretend_gpu("10.16")
    command("engine", travelled, *QUICK_FLAGS)
    file = travelled / "engine" / name
    file.unlink() if damage == "lost" else file.write_bytes(b"x" + file.read_bytes()[1:])
    command("engine", travelled, *QUICK_FLAGS)
    command("run", travelled, "--input", travelled / "samples.npz", "-o", travelled / "outputs.npz")


def test_an_engine_that_another_command_left_unfinished_is_not_taken_for_the_one_that_was_shipped(
    searched: Searched, pretend_gpu: PretendGpu
) -> None:
    """What ends after its engine is delivered and before that is written down leaves that engine behind."""
    pretend_gpu("10.16")
    first = report_of(searched)
    other = {"engine": {**QUICK_TIMING, "tf32": True}}
    probe = Recorder()
    copy = Searched(Path(shutil.copytree(searched.folder, searched.folder.with_name("probe"))), searched.files)
    report_of(copy, probe, **other)
    comparing = probe.events.index("begin Comparing the engine with Polygraphy")
    with pytest.raises(KeyboardInterrupt):
        report_of(searched, Recorder(interrupt_at=comparing), **other)
    again = report_of(searched)
    assert first.device is not None
    assert again.device is not None
    assert again.device.engine_sha256 == sha256_of(searched.folder / "engine/engine.plan")


def test_other_data_score_the_engine_anew(searched: Searched, pretend_gpu: PretendGpu, command: Command) -> None:
    pretend_gpu("10.16")
    data = load_npz(Path(searched.files["eval"]))
    right, half = searched.folder.parent / "right.npz", searched.folder.parent / "half.npz"
    labels = data["labels"].copy()
    labels[: len(labels) // 2] = (labels[: len(labels) // 2] + 1) % 10
    np.savez(right, **data)
    np.savez(half, **{**data, "labels": labels})

    def score(path: Path, *more: str) -> float:
        command("engine", searched.folder, *QUICK_FLAGS, "--eval", path, *more)
        kept = json.loads((searched.folder / "deployment.json").read_text())
        return float(kept["deployment"]["score"]["value"])

    assert score(right) > 0.8
    assert score(half) < 0.6
    assert score(half, "--eval-samples", "50") < 0.2


def test_a_device_table_serves_a_search_elsewhere(
    searched: Searched, pretend_gpu: PretendGpu, command: Command
) -> None:
    pretend_gpu("10.16", gpu="Fake Orin", sm=87)
    said = command("measure", searched.folder, *QUICK_FLAGS)
    assert "Fake Orin" in said
    assert "predicted within" in said
    pretend_gpu(available=False)
    report = report_of(searched, latency="auto")
    assert (report.latency_ms.source, report.latency_ms.device) == ("device-table", "Fake Orin")
    assert report_of(searched, latency="modelled").latency_ms.source == "modelled"


@pytest.mark.parametrize("change", [{"engine": {**QUICK_TIMING, "tf32": True}}, {"precisions": "fp16,fp8,int8"}])
def test_a_device_table_of_other_engines_is_measured_anew_where_there_is_a_gpu(
    searched: Searched, pretend_gpu: PretendGpu, change: dict[str, object]
) -> None:
    pretend_gpu("10.16")
    recorder = Recorder()
    for given, measured in (({}, True), ({}, False), (change, True), (change, False)):
        recorder.stages.clear()
        report = start(searched.files, searched.folder, recorder, **{**HERE, "device": "h200", **given}).report()
        assert report.latency_ms.source == "device-table"
        assert recorder.stages.count("Timing engines in turns") == (2 if measured else 0)
    pretend_gpu(available=False)
    assert report_of(searched, device="h200", latency="auto", **change).latency_ms.source == "device-table"


def test_an_engine_becomes_a_triton_model(
    travelled: Path, tmp_path: Path, pretend_gpu: PretendGpu, command: Command
) -> None:
    assert "there is no engine" in command("triton", travelled, "-o", tmp_path / "repository", code=2)
    pretend_gpu("10.16")
    command("engine", travelled, *QUICK_FLAGS)
    command("triton", travelled, "-o", tmp_path / "repository", "--name", "net")
    assert (tmp_path / "repository/net/1/model.plan").read_bytes() == (travelled / "engine/engine.plan").read_bytes()
    assert 'platform: "tensorrt_plan"' in (tmp_path / "repository/net/config.pbtxt").read_text()


@pytest.mark.parametrize("name", ["engine", "measure"])
def test_device_commands_say_what_they_need(travelled: Path, command: Command, name: str) -> None:
    said = command(name, travelled, code=2)
    assert said == (
        "error: tensorrt is not installed and building and running engines needs it: "
        "run `pip install 'tensorrt>=8.6'`\n"
    )


def test_a_folder_that_was_not_searched_is_no_use(tmp_path: Path, pretend_gpu: PretendGpu, command: Command) -> None:
    pretend_gpu()
    files = write_data(tmp_path, tiny_cnn())
    start(files, tmp_path / "run", **MODELLED).calibrate()
    assert "trt-mpq search" in command("engine", tmp_path / "run", code=2)
    assert "no run folder" in command("engine", tmp_path / "nothing", code=2)


def test_cuda_that_does_not_answer_is_one_sentence(travelled: Path, pretend_gpu: PretendGpu, command: Command) -> None:
    pretend_gpu("10.16", available=False)
    said = command("engine", travelled, code=2)
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def test_the_report_of_a_deployment_survives_its_file(searched: Searched, pretend_gpu: PretendGpu) -> None:
    pretend_gpu()
    report = report_of(searched)
    assert report_from_json((searched.folder / "report.json").read_text()) == report


def test_a_missing_gpu_is_told_by_the_error_of_the_library(searched: Searched, pretend_gpu: PretendGpu) -> None:
    pretend_gpu("8.6", available=False)
    with pytest.raises(RuntimeFailure):
        report_of(searched, engine={"build": "always"})
