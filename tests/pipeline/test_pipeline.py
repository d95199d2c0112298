"""Whole runs: what they deliver, what they redo, and that nothing but the clock tells an interrupted run apart."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.runs import QUICK, Recorder, stages_at_work, start, tiny_cnn, write_data
from trt_mpq.artifacts.files import TEMPORARY
from trt_mpq.artifacts.store import settings_of_run
from trt_mpq.errors import RunFolderError
from trt_mpq.report.data import Report, report_from_json
from trt_mpq.types import Precision

FP16, INT8, FP8 = Precision.FP16, Precision.INT8, Precision.FP8


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    return write_data(tmp_path_factory.mktemp("data"), tiny_cnn())


@pytest.fixture(scope="module")
def done(files, tmp_path_factory) -> tuple[Path, Report, Recorder]:
    """A finished run of three quantized precisions."""
    folder, observer = tmp_path_factory.mktemp("done") / "run", Recorder()
    report = start(files, folder, observer, precisions="fp8,int8").report()
    return folder, report, observer


def comparable(report: Report) -> Report:
    """The report without what only the clock decides."""
    return replace(report, created="", search=replace(report.search, seconds=0.0))


# What a run delivers.


def test_the_folder_holds_a_file_per_stage(done):
    folder, _, _ = done
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "manifest.json", "model.json", "model.onnx", "groups.json", "ranges.json", "corrections.npz",
        "sensitivity.json", "evaluations.jsonl", "search.json", "refined.json", "plan-corrections.npz", "plan.json",
        "placement.txt", "reference.onnx", "typed.onnx", "delivery.json", "verification.json", "comparison.json",
        "report.json", "report.html", "fp32.json", "fp32-samples.npy",
    }  # fmt: skip
    assert not [name for name in names if name.startswith(TEMPORARY)], "no temporary file stays"


def test_the_report_has_what_was_promised(done):
    folder, report, _ = done
    content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert set(content["accuracy"]) >= {"fp32", "fp16", "plan", "target", "metric"}
    assert set(content["latency_ms"]) >= {"fp16", "plan", "source"}
    assert set(content["size_bytes"]) >= {"fp32", "fp16", "plan"}
    assert set(content["search"]) >= {"algorithm", "sensitivity", "evaluations", "full_equivalents", "seconds"}
    assert content["latency_ms"]["source"] == "modelled"
    assert content["accuracy"]["metric"] == "top1"
    assert content["groups"] == 4 == len(content["group_rows"])
    assert sum(content["plan"]["counts"].values()) == 4
    assert content["seed"] == 0
    written = report_from_json((folder / "report.json").read_text(encoding="utf-8"))
    assert comparable(written) == comparable(report)


def test_every_figure_is_there_and_the_target_is_met(done):
    _, report, _ = done
    accuracy = report.accuracy
    assert None not in (accuracy.fp32, accuracy.fp16, accuracy.plan)
    assert accuracy.plan >= accuracy.target == pytest.approx(0.98 * accuracy.fp32)
    assert set(accuracy.uniform) == {FP16, FP8, INT8}
    assert all(ms > 0 for ms in (report.latency_ms.fp32, report.latency_ms.fp16, report.latency_ms.plan))
    assert report.size_bytes.fp32 > report.size_bytes.fp16 >= report.size_bytes.plan
    feasible = [s for s in report.search.path if s.note.startswith("uniform") and s.feasible]
    assert report.latency_ms.plan <= min(step.latency_ms for step in feasible)


def top1(path: Path, values: np.ndarray, labels: np.ndarray, batch: int = 32) -> float:
    """Independent of the product: plain ONNX Runtime and a mean."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    parts = [session.run(None, {"input": values[i : i + batch]})[0] for i in range(0, len(values), batch)]
    return float(np.mean(np.concatenate(parts).argmax(axis=1) == labels))


def test_the_written_files_score_what_the_report_says(files, done):
    folder, report, _ = done
    data = np.load(files["eval"])
    assert top1(folder / "reference.onnx", data["input"], data["labels"]) == report.accuracy.plan
    assert top1(folder / "model.onnx", data["input"], data["labels"]) == report.accuracy.fp32
    assert abs(top1(folder / "typed.onnx", data["input"], data["labels"]) - report.accuracy.plan) <= 0.02
    onnx.checker.check_model(folder / "typed.onnx", full_check=True)


def test_formats_are_not_mixed(done):
    _, report, _ = done
    assert report.search.ladder == (FP16, FP8, INT8)
    assert all(not {FP8, INT8} <= set(step.counts) for step in report.search.path)
    assert len({step.plan for step in report.search.path}) == len(report.search.path)


def test_formats_may_be_mixed_on_request(files, tmp_path):
    for mixed, ladders in ((True, [(FP16, FP8, INT8)]), (False, [(FP16, FP8), (FP16, INT8)])):
        run = start(files, tmp_path / str(mixed), precisions="fp8,int8", mix_formats=mixed)
        assert [problem.ladder for problem in run.store[run.search_stages().problems]] == ladders


def test_refinement_says_before_and_after_for_every_precision(done):
    _, report, _ = done
    *by_format, chosen = report.refinement
    refined = [(r.name, r.precision) for r in by_format if r.name != "calibration"]
    assert refined == [("bias correction", FP8), ("bias correction", INT8)]
    assert (chosen.name, chosen.precision, chosen.after) == ("for the chosen plan", None, report.accuracy.plan)
    for record in by_format:
        if record.name == "calibration":
            assert "half of the groups lowered" in record.detail or record.after >= report.accuracy.target
            continue
        assert record.after is not None
        if record.before is None:
            assert record.after >= report.accuracy.target, "else it is asked what it scores without"
        worse = record.before is not None and record.after < record.before
        assert ("dropped" in record.detail) == worse


def test_full_equivalents_count_sensitivity_and_search(done):
    folder, report, _ = done
    forward = json.loads((folder / "sensitivity.json").read_text(encoding="utf-8"))["forward_passes"]
    scored = sum(step.samples * (2 if step.delivered is not None else 1) for step in report.search.path)
    assert report.search.evaluations == len(report.search.path)
    assert report.search.full_equivalents == pytest.approx((scored + forward) / 100, abs=1e-3)


def test_no_plan_is_scored_twice(done):
    folder, _, _ = done
    lines = [json.loads(line)[:2] for line in (folder / "evaluations.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len({tuple(line) for line in lines}) == len(lines)
    plans = [key for _, key in lines if key != "fp32" and not key.endswith(" own") and not key.startswith("file ")]
    trials = list(folder.glob("calibration-*.json"))
    with_ranges = {tuple(key.split()[:2]) for key in plans}  # what follows these are the refinements
    assert len(plans) <= len(trials) + len(with_ranges), "uncorrected uniform plans are all that comes twice"


def test_the_fp32_score_comes_before_any_other_work(done):
    _, _, observer = done
    assert observer.stages[0] == "Scoring FP32"
    assert len(set(observer.stages)) == len(observer.stages)


def test_stages_do_not_nest(done):
    _, _, observer = done
    edges = [event.split()[0] for event in observer.events if event.startswith(("begin ", "end "))]
    assert edges == ["begin", "end"] * (len(edges) // 2)


# Resuming.


def test_a_second_run_does_no_work(files, done):
    folder, report, _ = done
    observer = Recorder()
    again = start(files, folder, observer, precisions="fp8,int8").report()
    assert observer.events == []
    assert replace(again, created="") == replace(report, created="")


def test_a_run_interrupted_again_and_again_ends_the_same(files, done, tmp_path):
    _, report, _ = done
    for attempt in range(100):
        observer = Recorder(interrupt_at=attempt)
        try:
            resumed = start(files, tmp_path / "run", observer, precisions="fp8,int8").report()
            break
        except KeyboardInterrupt:
            continue
    assert attempt > 5
    assert comparable(resumed) == comparable(report)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.45, 0.6, 0.75, 0.9])
def test_one_interrupt_anywhere_changes_nothing(files, done, tmp_path, share):
    _, report, whole = done
    point = int(share * len(whole.events))
    with pytest.raises(KeyboardInterrupt):
        start(files, tmp_path / "run", Recorder(interrupt_at=point), precisions="fp8,int8").report()
    observer = Recorder()
    resumed = start(files, tmp_path / "run", observer, precisions="fp8,int8").report()
    assert comparable(resumed) == comparable(report)
    assert len(observer.events) < len(whole.events) or share < 0.2, "what was finished is not done again"


def test_a_killed_process_is_resumed(files, done, tmp_path):
    _, report, _ = done
    script = f"""
        from pathlib import Path
        from trt_mpq.types.observer import SilentObserver
        from trt_mpq.pipeline.run import Run
        from trt_mpq.settings import settings_from
        settings = settings_from({ {**files, **QUICK, "precisions": "fp8,int8"}!r}, "test")
        Run(settings, Path({str(tmp_path / "run")!r}), SilentObserver(), "trt-mpq build").report()
    """
    generator = random.Random(0)
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
        deadline = time.monotonic() + 60
        while not (tmp_path / "run" / "manifest.json").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(generator.uniform(0, 1))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    resumed = start(files, tmp_path / "run", precisions="fp8,int8").report()
    assert comparable(resumed) == comparable(report)


@pytest.mark.parametrize(
    "name",
    ["ranges.json", "groups.json", "search.json", "corrections.npz", "typed.onnx", "sensitivity.json", "model.onnx"],
)
def test_a_damaged_file_is_made_again(files, done, tmp_path, name):
    folder, report, _ = done
    copy = tmp_path / "run"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes() if path.name != name else path.read_bytes()[:-7])
    assert comparable(start(files, copy, precisions="fp8,int8").report()) == comparable(report)
    assert (copy / name).stat().st_size >= (folder / name).stat().st_size - 5


BY_MSE = "corrections-int8-mse"
ALL = {
    "model", "groups", "ranges", "network", BY_MSE, "corrections", "fp32", "sensitivity", "settled", "search",
    "searched", "delivery", "verification", "comparison",
}  # fmt: skip
RANGES = ALL - {"model", "groups", "fp32", "comparison"}
"""What depends on the ranges, where these come out otherwise. The plan is all FP16, so that its files come out the same
and are not compared anew."""
DELIVERED = {"delivery", "verification", "comparison"}


SHORT = {
    "search": "ilp", "max_evaluations": 2, "calibration": "mse", "refine_plan": False, "target_accuracy": 1.0,
}  # fmt: skip
"""A search by a ranking that tries no more than the uniform plans; INT8 loses too much for it to end before."""


@pytest.fixture(scope="module")
def base(files, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "run"
    start(files, folder, **SHORT).report()
    return folder


@pytest.mark.parametrize(
    ("change", "redone"),
    [
        ({}, set()),
        ({"threads": 2}, set()),
        ({"workers": 2}, set()),
        ({"target_accuracy": 0.97}, {"settled", "search", "searched"} | DELIVERED),
        ({"device": "a100"}, {"groups", "settled", "search", "searched"}),
        ({"search": "uniform"}, {"settled", "search", "searched"}),
        (
            {"search": "greedy", "max_evaluations": None, "refine_plan": True},
            {"settled", "search", "searched", "refined"} | DELIVERED,
        ),
        ({"keep": ("fp16:second*",)}, {"settled", "search", "searched"}),
        ({"max_evaluations": 1}, {"settled", "search", "searched"}),
        ({"target_size": "1MB"}, {"settled", "search", "searched"}),
        ({"confidence": 0.95}, {"settled", "search"}),
        ({"batch": 16}, {"outputs", "fp32", "network", "settled", "search", "searched", "verification", "comparison"}),
        ({"eval_samples": 50}, {"outputs", "fp32", "network", "settled", "search", "searched"} | DELIVERED),
        ({"metric": "top5"}, {"fp32", "settled", "search", "searched"} | DELIVERED),
        ({"bias_correction": False}, {"settled", "search", "searched", "delivery", "verification"}),
        ({"refine_plan": True}, {"refined", "searched"}),
        ({"adaround_steps": 5}, set()),
        ({"seed": 1}, {"network", "sensitivity", "settled", "search"}),
        ({"trials": 1}, set()),
        ({"noise_amplitude": 2.0}, set()),
        ({"sensitivity": "quantization-error"}, {"sensitivity", "search"}),
        ({"sensitivity_samples": 4}, {"sensitivity", "search"}),
        (
            {"sensitivity": "output-sqnr,random"},
            {"sensitivity.random", "sensitivity.task-loss", "agreement"},
        ),
        ({"calibration": "percentile"}, (RANGES - {BY_MSE}) | {"corrections-int8-percentile"}),
        (
            {"calibration": "mse,percentile"},
            {"ranges", "calibration-int8-mse", "calibration-int8-percentile", "corrections-int8-percentile"}
            | {"ranges-int8-by-tensor", "corrections-int8-per-tensor"}
            | {f"mixed-int8-{method}" for method in ("mse", "percentile", "per-tensor")},
        ),
        ({"calib_samples": 12}, RANGES),
        ({"precisions": "int8,int4"}, (RANGES - {BY_MSE}) | {"groups", "corrections-int4-mse"}),
        ({"exclusions": "modelopt"}, RANGES | {"groups"}),
        (
            {"equalize": True},
            RANGES | {"groups", "equalized", "groups.unequalized", "ranges.unequalized", "comparison"},
        ),
        ({"smooth_alpha": 0.7}, set()),
        ({"smooth": True}, {"smoothed", "groups.unsmoothed", "ranges.unsmoothed"}),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),  # the same in every process
)
def test_a_changed_setting_redoes_what_depends_on_it_and_nothing_else(
    files, base, tmp_path, monkeypatch, change, redone
):
    copy = Path(shutil.copytree(base, tmp_path / "run"))
    worked = stages_at_work(monkeypatch)
    start(files, copy, **{**SHORT, **change}).report()
    assert worked - {"layer-errors"} == redone, "those follow the plan, for the report"


def test_several_metrics_are_compared_with_task_loss(files, base, tmp_path):
    run = start(files, Path(shutil.copytree(base, tmp_path / "run")), search="uniform", sensitivity="noise,random")
    found, report = run.sensitivities(), run.report()
    assert [ranking.metric for ranking in found.rankings] == ["noise", "random", "task-loss"]
    assert found.rankings[0].metric == run.settings.sensitivity[0]
    assert report.agreement == found.agreement
    assert found.agreement.metrics == ("noise", "random", "task-loss")
    order = [ranking.order(INT8) for ranking in found.rankings]
    assert (found.agreement.tau[INT8][0][2] == 1.0) is (order[0] == order[2])
    assert report.search.sensitivity == "noise"


def test_one_metric_is_compared_with_nothing(done):
    folder, report, _ = done
    assert report.agreement is None
    assert not (folder / "agreement.json").exists()


def test_scores_are_shared_between_runs_that_ask_for_the_same(files, tmp_path):
    """Another target needs a new search, but uniform plans, their files and FP32 are known."""
    settings = {"search": "uniform", "calibration": "mse"}
    start(files, tmp_path / "run", **settings, target_accuracy=0.6).search()
    known = (tmp_path / "run" / "evaluations.jsonl").read_bytes()
    start(files, tmp_path / "run", **settings, target_accuracy=0.5).search()
    assert (tmp_path / "run" / "evaluations.jsonl").read_bytes() == known


# Stopping early.


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> dict[str, str]:
    return write_data(tmp_path_factory.mktemp("many"), tiny_cnn(), evaluation=1000)


EARLY = {"precisions": "int8,int4", "target_accuracy": 0.998, "search": "greedy", "equalize": True}


@pytest.fixture(scope="module")
def early(many, tmp_path_factory) -> tuple[Path, Report, Recorder]:
    """A finished run that decided some of its plans before their last sample."""
    folder, observer = tmp_path_factory.mktemp("early") / "run", Recorder()
    report = start(many, folder, observer, **EARLY).report()
    assert report.search.decided_early > 0
    return folder, report, observer


def test_stopping_early_finds_the_plan_of_full_evaluations_for_less(many, early, tmp_path):
    _, report, _ = early
    full = start(many, tmp_path / "run", confidence=1, **EARLY).report()
    assert (report.plan, report.accuracy) == (full.plan, full.accuracy)
    assert report.search.full_equivalents < full.search.full_equivalents
    assert [step.feasible for step in report.search.path] == [step.feasible for step in full.search.path]
    assert all(step.complete and step.samples == 1000 for step in full.search.path)


def test_what_is_shown_and_chosen_is_measured_on_every_sample(many, early):
    folder, report, _ = early
    data = np.load(many["eval"])
    assert top1(folder / "reference.onnx", data["input"], data["labels"]) == report.accuracy.plan
    assert report.accuracy.plan >= report.accuracy.target
    whole = {step.plan for step in report.search.path if step.complete}
    assert report.plan.digest in whole
    assert all(step.complete for step in report.search.path if step.note.startswith("uniform"))
    assert all(step.samples < 1000 for step in report.search.path if not step.complete)


@pytest.mark.parametrize("share", [0.4, 0.6, 0.8])
def test_an_interrupted_run_repeats_its_early_decisions(many, early, tmp_path, share):
    _, report, whole = early
    with pytest.raises(KeyboardInterrupt):
        start(many, tmp_path / "run", Recorder(interrupt_at=int(share * len(whole.events))), **EARLY).report()
    assert comparable(start(many, tmp_path / "run", **EARLY).report()) == comparable(report)


def test_a_users_metric_is_never_stopped_early(many, tmp_path, monkeypatch):
    (tmp_path / "whole_metric.py").write_text("def score(outputs, labels):\n    return 1.0\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    report = start(many, tmp_path / "run", metric="whole_metric:score", precisions="int8").report()
    assert report.search.decided_early == 0
    assert not (tmp_path / "run" / "fp32-samples.npy").exists()


def test_the_stored_settings_hold_in_another_folder(files, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(files["model"]).parent)
    start({**files, "model": "net.onnx", "calib": "calib.npz"}, tmp_path / "run").inspect()
    monkeypatch.chdir(tmp_path)
    stored = settings_of_run(tmp_path / "run")
    assert stored["model"] == files["model"]
    assert start(stored, tmp_path / "run").inspect().groups
    with pytest.raises(RunFolderError, match="is no run folder: make one with `trt-mpq inspect MODEL -o"):
        settings_of_run(tmp_path)
