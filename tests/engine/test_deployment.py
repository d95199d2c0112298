"""The whole way to an engine, on a pretended GPU with every TensorRT version."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.fakes.fixtures import PretendGpu
from tests.runs import Recorder, slow_device, start, tiny_cnn, write_data
from trt_mpq.artifacts.files import sha256_of
from trt_mpq.cli import app
from trt_mpq.dataset.arrays import load_npz
from trt_mpq.engine.deploy import candidates_of
from trt_mpq.errors import ComparisonFailed, MissingDependencyError, RuntimeFailure
from trt_mpq.report.data import Report, report_from_json
from trt_mpq.report.device import device_text
from trt_mpq.types import Evaluation, Precision, PrecisionPlan, Score, SearchResult
from trt_mpq.types.engine import BuildStatus

FP16, INT8 = Precision.FP16, Precision.INT8

QUICK_TIMING = {"rounds": 4, "round_ms": 2.0, "warm_up_ms": 1.0}
HERE = {"engine": QUICK_TIMING, "batch": 8}
MODELLED = {**HERE, "latency": "modelled"}


@dataclass(frozen=True)
class Searched:
    """A run folder that was searched without a GPU, and what it was made from."""

    folder: Path
    files: dict[str, str]


def test_runners_up_were_measured_on_every_sample() -> None:
    """What a test decided from a part of the samples is an estimate, and no engine is shipped on an estimate."""
    plans = [PrecisionPlan.of({"a": a, "b": b}) for a in (FP16, INT8) for b in (FP16, INT8)]
    score = Score(0.9, 0.01, 100)
    path = [
        Evaluation(plan, score, ms, True, "step", complete=complete)
        for plan, ms, complete in zip(plans, (4.0, 3.0, 2.0, 1.0), (True, True, False, True), strict=True)
    ]
    found = SearchResult("greedy", (FP16, INT8), path[-1], tuple(path))
    grouping = SimpleNamespace(top=FP16, uniform={FP16: plans[0], INT8: plans[3]}.__getitem__)
    candidates = candidates_of(grouping, found, {})
    assert [(name, plan) for name, plan, _ in candidates if name.startswith("candidate")] == [("candidate-2", plans[1])]


@pytest.fixture(scope="module")
def searched_once(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    home = tmp_path_factory.mktemp("searched")
    files = {**write_data(home, tiny_cnn()), "device": slow_device(home / "slow.toml")}
    start(files, home / "run", **MODELLED).report()
    return Searched(home / "run", files)


@pytest.fixture
def searched(searched_once: Searched, tmp_path: Path) -> Searched:
    """A copy of it to work in."""
    return Searched(Path(shutil.copytree(searched_once.folder, tmp_path / "run")), searched_once.files)


def report_of(searched: Searched, recorder: Recorder | None = None, **settings: object) -> Report:
    return start(searched.files, searched.folder, recorder, **{**MODELLED, **settings}).report()


def test_a_build_with_every_tensorrt_ends_with_a_verified_engine(
    tmp_path: Path,
    pretend_gpu: PretendGpu,
    trt_version: str,
) -> None:
    pretend_gpu(trt_version)
    files = write_data(tmp_path, tiny_cnn())
    # At 0.98 the file of the fastest plan loses one sample too many, and the plan is uniform.
    report = start(files, tmp_path / "run", **HERE, target_accuracy=0.97).report()
    device = report.device
    assert device is not None
    assert device.platform.gpu == "Fake H200"
    assert device.platform.tensorrt.startswith(trt_version)
    assert [c.name for c in device.candidates] == ["plan", "fp16", "int8"]
    assert {c.build.typing for c in device.candidates} == {"weak" if trt_version == "8.6" else "strong"}
    assert device.decision.shipped == "plan"
    assert device.realised is not None
    assert device.realised.agreeing == len(device.realised.groups) == 4
    assert device.score is not None
    assert device.score.value == pytest.approx(report.accuracy.plan, abs=0.02)
    assert report.latency_ms.source == "device-table"
    assert report.latency_ms.device == "Fake H200"
    assert report.not_done == ()
    assert (tmp_path / "run/engine/engine.plan").is_file()
    manifest = json.loads((tmp_path / "run/engine/manifest.json").read_text())
    assert manifest["platform"]["tensorrt"] == device.platform.tensorrt


def test_a_bf16_ladder_is_built_and_judged_against_bf16(
    tmp_path: Path, pretend_gpu: PretendGpu, trt_version: str
) -> None:
    pretend_gpu(trt_version)
    files = write_data(tmp_path, tiny_cnn())
    report = start(files, tmp_path / "run", **MODELLED, precisions="bf16,int8", target_accuracy=0.95).report()
    device = report.device
    assert device is not None
    assert device.decision.baseline == "bf16"
    if trt_version == "8.6":
        assert device.decision.shipped is None
        assert all("cannot hold bf16" in (candidate.build.reason or "") for candidate in device.candidates)
        return
    assert device.candidate("bf16").build.built
    assert device.timing is not None
    assert {ratio.baseline for ratio in device.timing.ratios} == {"bf16"}
    assert device.shipped is not None
    assert device.realised is not None
    assert device.realised.agreeing == len(device.realised.groups)
    assert "FP16" not in device_text(device).outcome


def test_a_device_table_knows_bf16(tmp_path: Path, pretend_gpu: PretendGpu) -> None:
    pretend_gpu("11.4")
    files = write_data(tmp_path, tiny_cnn())
    report = start(files, tmp_path / "run", **HERE, precisions="bf16,int8", target_accuracy=0.95).report()
    assert report.latency_ms.source == "device-table"
    assert report.latency_ms.of(Precision.BF16)
    assert all(row.bf16_latency_ms for row in report.group_rows)


def test_the_timing_says_what_the_simulated_device_does(searched: Searched, pretend_gpu: PretendGpu) -> None:
    pretend_gpu("10.16", noise=0.0, drift=0.0)
    device = report_of(searched).device
    assert device is not None
    assert device.timing is not None
    plan, fp16 = device.timing.profiles["plan"], device.timing.profiles["fp16"]
    ratio = device.timing.ratio("plan")
    assert ratio is not None
    assert ratio.low <= ratio.value <= ratio.high
    assert ratio.value == pytest.approx(plan.gpu_compute.median / fp16.gpu_compute.median, rel=0.02)
    # The simulated device computes INT8 twice as fast as FP16 and converts between them in kernels of their own.
    assert 0.45 < ratio.value < 0.65


def test_a_second_run_does_nothing_again(searched: Searched, pretend_gpu: PretendGpu) -> None:
    pretend_gpu()
    first = report_of(searched)
    recorder = Recorder()
    assert report_of(searched, recorder).device == first.device
    assert recorder.stages == []


def test_an_interrupted_deployment_keeps_its_builds(searched: Searched, pretend_gpu: PretendGpu) -> None:
    pretend_gpu()
    timing = Recorder(interrupt_at=_first_event(searched, "Timing engines in turns"))
    with pytest.raises(KeyboardInterrupt):
        report_of(searched, timing)
    again = Recorder()
    assert report_of(searched, again).device is not None
    assert not any(stage.startswith("Building") for stage in again.stages)


def _first_event(searched: Searched, stage: str) -> int:
    """Number of the event with which `stage` begins."""
    probe = Searched(Path(shutil.copytree(searched.folder, searched.folder.with_name("probe"))), searched.files)
    recorder = Recorder()
    report_of(probe, recorder)
    return recorder.events.index(f"begin {stage}")


def test_a_plan_that_is_no_faster_is_not_shipped(searched: Searched, pretend_gpu: PretendGpu) -> None:
    pretend_gpu("10.16", eight_bit_slowdown=4.0)
    device = report_of(searched, target_accuracy=0.95).device
    assert device is not None
    assert device.decision.shipped == "fp16"
    assert "fp16 is shipped: plan takes" in device.decision.verdict
    assert set(json.loads((searched.folder / "engine/plan.json").read_text()).values()) == {"fp16"}


@pytest.mark.parametrize("version", ["8.6", "10.16"])
def test_an_engine_that_misses_the_target_is_not_shipped(
    searched: Searched, pretend_gpu: PretendGpu, version: str
) -> None:
    pretend_gpu(version, wrong_in_8_bit=("first",))
    report = report_of(searched)
    device = report.device
    assert device is not None
    plan, high = device.candidate("plan"), device.candidate("fp16")
    assert plan.score is not None
    assert high.score is not None
    assert plan.score.value < report.accuracy.target <= high.score.value
    assert (plan.feasible, high.feasible) == (False, True)
    assert device.decision.shipped == "fp16"
    assert "plan misses the accuracy target through its engine" in device.decision.verdict
    assert device.score == high.score
    assert set(json.loads((searched.folder / "engine/plan.json").read_text()).values()) == {"fp16"}


def test_an_engine_that_is_far_from_fp32_is_not_shipped_where_that_is_required(
    searched: Searched, pretend_gpu: PretendGpu
) -> None:
    pretend_gpu(wrong_in_8_bit=("first",))
    free = {"target_accuracy": 0.01, "comparison_snr": ("0",)}
    device = report_of(searched, **free).device
    assert device is not None
    assert device.decision.shipped == "plan", "accurate enough for so low a target"
    with pytest.raises(ComparisonFailed, match=r"of the engine with FP32 failed \(output 'output': .* required 5 dB"):
        report_of(searched, require_comparison=True, **free | {"comparison_snr": ("5",)})
    kept = json.loads((searched.folder / "report.json").read_text())["device"]
    assert kept["decision"]["shipped"] is None
    assert "plan fails the comparison with FP32, which is required" in kept["decision"]["verdict"]


@pytest.mark.parametrize("version", ["8.6", "10.16"])
def test_a_wrong_engine_is_bisected_and_mended(
    searched: Searched, pretend_gpu: PretendGpu, command: Command, version: str
) -> None:
    pretend_gpu(version)
    said = command("bisect", searched.folder, "--json")
    right = json.loads(said[said.index("{") :])
    assert (right["engines"], right["at_fault"]) == (1, {})
    pretend_gpu(version, driver="another", wrong_in_8_bit=("first",))
    said = command("bisect", searched.folder, "--json")
    wrong = json.loads(said[said.index("{") :])
    assert wrong["at_fault"] == {"first": "int8"}
    assert not wrong["before"]["outputs"][0]["passed"]
    assert wrong["after"]["outputs"][0]["passed"]
    report = report_of(searched)
    device = report.device
    assert device is not None
    plan = device.candidate("plan")
    assert plan.plan.counts() == {FP16: 1, INT8: 3}
    assert all(candidate.plan["first"] is FP16 for candidate in device.candidates)
    assert plan.score is not None
    assert plan.score.value == pytest.approx(report.accuracy.plan, abs=0.05)


@pytest.mark.parametrize(
    ("behaviour", "status", "reason"),
    [
        ({"crash": "segfault"}, BuildStatus.CRASHED, "SIGSEGV"),
        ({"crash": "abort"}, BuildStatus.CRASHED, "SIGABRT"),
        ({"failing_node": "first"}, BuildStatus.FAILED, "first"),
    ],
)
def test_a_failed_build_is_an_outcome(
    searched: Searched,
    pretend_gpu: PretendGpu,
    behaviour: dict[str, str],
    status: BuildStatus,
    reason: str,
) -> None:
    pretend_gpu("10.16", **behaviour)
    report = report_of(searched)
    assert report.device is not None
    assert {c.build.status for c in report.device.candidates} == {status}
    assert reason in report.device.candidates[0].build.reason
    assert report.device.decision.shipped is None
    assert "nothing is shipped" in report.device.decision.verdict
    assert not (searched.folder / "engine/engine.plan").exists()


def test_a_cuda_graph_that_cannot_be_captured_is_told(
    searched: Searched, pretend_gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeFailure("CUDA could not capture a CUDA graph: it has a loop")

    pretend_gpu()
    monkeypatch.setattr("trt_mpq.runtime.cuda.CudaGraph.capture", refuse)
    device = report_of(searched).device
    assert device is not None
    assert device.notes == (
        "all engines were timed without CUDA graphs, because one cannot be captured: fp16: CUDA could not capture a "
        "CUDA graph: it has a loop",
    )


def test_a_hanging_build_is_stopped(searched: Searched, pretend_gpu: PretendGpu) -> None:
    pretend_gpu("10.16", hang=True)
    device = report_of(searched, engine={**QUICK_TIMING, "build_timeout_s": 6.0}).device
    assert device is not None
    assert {c.build.status for c in device.candidates} == {BuildStatus.TIMED_OUT}


def test_what_the_device_did_is_reported_without_it(searched: Searched, pretend_gpu: PretendGpu) -> None:
    pretend_gpu()
    device = report_of(searched).device
    pretend_gpu(available=False)
    assert report_of(searched).device == device


def test_another_device_builds_anew(searched: Searched, pretend_gpu: PretendGpu) -> None:
    pretend_gpu("10.16")
    report_of(searched)
    pretend_gpu("10.16", gpu="Fake Orin", sm=87)
    device = report_of(searched).device
    assert device is not None
    assert device.platform.gpu == "Fake Orin"


def test_without_a_gpu_the_report_says_what_is_missing(searched: Searched) -> None:
    report = report_of(searched)
    (sentence,) = report.not_done
    assert "tensorrt is not installed" in sentence
    assert "trt-mpq engine RUN_DIR" in sentence
    commands = [route.command for route in report.routes if route.network == "typed.onnx" and not route.refusal]
    assert any("--stronglyTyped" in command for command in commands), "TensorRT 11 knows no other typing"
    assert all(command.startswith("trtexec --onnx=typed.onnx ") for command in commands)


@pytest.mark.parametrize("settings", [{"engine": {"build": "always"}}, {"latency": "measured"}])
def test_an_engine_that_must_be_built_fails_at_once(searched: Searched, settings: dict[str, object]) -> None:
    with pytest.raises(MissingDependencyError, match="tensorrt is not installed"):
        report_of(searched, **settings)


def test_no_engine_is_built_if_none_is_wanted(searched: Searched, pretend_gpu: PretendGpu) -> None:
    pretend_gpu()
    report = report_of(searched, engine={"build": "never"})
    assert report.device is None
    assert "it was not asked for" in report.not_done[0]


# The two halves of a run on two machines.

Command = Callable[..., str]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs trt-mpq and gives what it prints."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str | Path, code: int = 0) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        return result.output

    return run


QUICK_FLAGS = ("--rounds", "4", "--round-ms", "2", "--warm-up-ms", "1")


@pytest.fixture
def travelled(searched: Searched, tmp_path: Path) -> Path:
    """A run folder on a machine that has neither the model nor the data."""
    folder = tmp_path / "elsewhere" / "run"
    shutil.copytree(searched.folder, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in ("model", "calib", "eval"):
        manifest["settings"][name] = f"/nowhere/{name}.npz"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


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
