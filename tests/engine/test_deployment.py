"""The whole way to an engine, on a pretended GPU with every TensorRT version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.engine.deployments import HERE, MODELLED, QUICK_TIMING, Command, Searched, report_of
from tests.fakes.fixtures import PretendGpu
from tests.runs import Recorder, start, tiny_cnn, write_data
from trt_mpq.engine.deploy import candidates_of
from trt_mpq.errors import ComparisonFailed, MissingDependencyError, RuntimeFailure
from trt_mpq.report.device import device_text
from trt_mpq.types import Evaluation, Precision, PrecisionPlan, Score, SearchResult
from trt_mpq.types.engine import BuildStatus

FP16, INT8 = Precision.FP16, Precision.INT8


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
