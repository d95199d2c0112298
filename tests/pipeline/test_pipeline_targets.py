"""Whole runs with other targets than accuracy, with pins and with budgets."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from tests.networks import Builder
from tests.runs import Recorder, slow_device, start, tiny_cnn, write_data
from trt_mpq.errors import ComparisonFailed, SettingsError, TargetNotReachable
from trt_mpq.evaluate.metrics.boxes import decoder_of
from trt_mpq.evaluate.plans import PlanEvaluator
from trt_mpq.report import verdict
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.types import Precision, Score

FP16, INT8 = Precision.FP16, Precision.INT8


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    return write_data(tmp_path_factory.mktemp("data"), tiny_cnn())


def test_a_latency_target_is_kept_and_the_accuracy_is_only_reported(files, tmp_path):
    free = start(files, tmp_path / "run", target_accuracy=1.0)
    uniform = {e.plan.counts().get(INT8, 0): e.latency_ms for e in free.search().path if e.note.startswith("uniform")}
    most = sum(uniform.values()) / 2
    report = start(files, tmp_path / "run", target_accuracy=1.0, target_latency=most).report()
    assert report.latency_ms.plan <= most
    within = [step.score for step in report.search.path if step.latency_ms <= most]
    assert report.accuracy.plan == max(within)
    assert report.search.limit == "--target-latency"


def test_a_size_target_is_kept(files, tmp_path):
    sizes = start(files, tmp_path / "run").report().size_bytes
    most = (sizes.fp16 + sizes.uniform[INT8]) // 2
    assert start(files, tmp_path / "run", target_size=most).report().size_bytes.plan <= most
    with pytest.raises(TargetNotReachable, match=r"none of \d+ plans tried takes at most 9 bytes: the least is \d"):
        start(files, tmp_path / "run", target_size=9).search()


def test_pins_hold_in_every_plan_and_are_the_reason(files, tmp_path):
    ids = [group.id for group in start(files, tmp_path / "run").inspect().groups]
    run = start(files, tmp_path / "run", keep=(f"fp16:{ids[1]}",), exclude=(ids[2],), target_accuracy=0.5)
    report = run.report()
    assert {e.plan[g] for e in run.search().path for g in ids[1:3]} == {FP16}
    reasons = {row.id: row.reason for row in report.group_rows}
    assert reasons[ids[1]] == f"pinned to fp16 by --keep fp16:{ids[1]}"
    assert reasons[ids[2]] == f"kept out of 8 bit by --exclude {ids[2]}"
    with pytest.raises(SettingsError, match=r"--exclude nothing\* matches none of the 4 groups"):
        start(files, tmp_path / "run", exclude=("nothing*",)).search()


def test_a_budget_ends_the_search_and_the_report_says_so(files, tmp_path):
    report = start(files, tmp_path / "run", max_evaluations=1).report()
    assert report.search.evaluations == 1
    assert report.search.stopped == "--max-evaluations"
    assert report.plan.counts == {FP16: 4}
    assert report.plan.mac_share == 0.0


def test_seconds_that_were_recorded_end_a_resumed_search_where_it_ended(files, tmp_path):
    first = start(files, tmp_path / "run", max_seconds=1e-3).search()
    assert first.stopped == "--max-seconds"
    (tmp_path / "run" / "search.json").unlink()
    (tmp_path / "run" / "searched.json").unlink()
    assert start(files, tmp_path / "run", max_seconds=1e-3).search() == first


def test_the_frontier_answers_another_target_without_evaluating(files, tmp_path):
    observer = Recorder()
    start(files, tmp_path / "run", observer, search="pareto", target_accuracy=0.99).search()
    known = (tmp_path / "run" / "evaluations.jsonl").read_bytes()
    result = start(files, tmp_path / "run", search="pareto", target_accuracy=0.5).search()
    added = (tmp_path / "run" / "evaluations.jsonl").read_bytes().removeprefix(known).decode().splitlines()
    assert [json.loads(line)[1].split()[0] for line in added] == ["file"], "but for its file"
    assert result.chosen.delivered is not None
    assert result.chosen.latency_ms == min(e.latency_ms for e in result.path)


def test_searches_along_the_ranking_know_no_other_target(files, tmp_path):
    with pytest.raises(SettingsError, match="--search greedy knows no target but accuracy: choose one of ilp, pareto"):
        start(files, tmp_path / "run", search="greedy", target_latency=1.0)


def test_a_plan_is_chosen_only_if_its_file_keeps_the_target_too(files, tmp_path, monkeypatch):
    files = {**files, "device": slow_device(tmp_path / "slow.toml")}
    before = start(files, tmp_path / "before").report()
    verified = json.loads((tmp_path / "before" / "verification.json").read_text(encoding="utf-8"))
    (chosen,) = (step for step in before.search.path if step.plan == before.plan.digest)
    assert before.plan.counts[INT8] > 0
    assert chosen.delivered == verified["typed"]["value"] == before.accuracy.file
    assert before.accuracy.file >= before.accuracy.target
    assert verified["typed"]["samples"] == before.accuracy.samples

    lines = (tmp_path / "before" / "evaluations.jsonl").read_text(encoding="utf-8").splitlines()
    scored = [key for _, key, *_ in map(json.loads, lines) if key.startswith("file ")]
    asked = sum(step.delivered is not None for step in before.search.path)
    assert len(scored) == asked + (verified["weak"] is not None), "typed.onnx is not scored again on disk"
    assert f"file {sha256((tmp_path / 'before' / 'typed.onnx').read_bytes()).hexdigest()}" in scored

    score = PlanEvaluator.delivered

    def spoiled(self, plan):
        file = score(self, plan)
        return Score(0.0, None, 7) if plan.digest == before.plan.digest else file

    monkeypatch.setattr(PlanEvaluator, "delivered", spoiled)
    after = start(files, tmp_path / "after", refine_plan=False).report()
    (refused,) = (step for step in after.search.path if step.plan == before.plan.digest)
    assert (refused.feasible, refused.delivered) == (False, 0.0)
    assert after.plan.digest != refused.plan
    assert after.latency_ms.plan > before.latency_ms.plan
    assert after.search.full_equivalents > 0.07 + sum(step.samples for step in after.search.path) / 100


def test_outputs_too_far_from_fp32_are_a_remark_or_where_that_is_required_the_end(files, tmp_path):
    far = {"comparison_snr": ("output=200",), "target_accuracy": 0.9}
    report = start(files, tmp_path / "run", **far).report()
    (output,) = report.comparison.outputs
    assert not output.passed
    assert verdict.remarks(report)[0].startswith("typed.onnx fails the comparison with FP32: output 'output': ")
    with pytest.raises(ComparisonFailed, match=r"output 'output': [\d.]+ dB, required 200 dB"):
        start(files, tmp_path / "run", require_comparison=True, **far).report()
    start(files, tmp_path / "run", require_comparison=True, target_accuracy=0.9).report()


def test_a_target_in_decibels_is_kept_and_told_in_decibels(files, tmp_path):
    settings = {"eval": None, "metric": "auto", "target_sqnr": 31.0}
    report = start(files, tmp_path / "run", **settings).report()
    assert report.accuracy.target == pytest.approx(1 - 10**-3.1)
    assert report.accuracy.plan >= report.accuracy.target
    assert "required 31.0 dB" in verdict.headline(report)[2]
    assert report.size_bytes.file == (tmp_path / "run" / "typed.onnx").stat().st_size
    with pytest.raises(SettingsError, match="target_sqnr: is for the metric sqnr"):
        start(files, tmp_path / "other", metric="top1", target_sqnr=31.0)


def test_a_detector_is_judged_by_its_boxes(tmp_path):
    """Labels are what FP32 finds, so that its score is 1, and the plan keeps the share of it."""
    pytest.importorskip("pycocotools")
    b = Builder(0)
    features = b.relu("middle.relu", b.conv("middle", b.relu("stem.relu", b.conv("stem", "input", (3, 16))), (16, 16)))
    shape = b.constant("shape", np.array([0, 8, 64], np.int64))
    b.node("Sigmoid", "heads", [b.node("Reshape", "flat", [b.conv("boxes", features, (16, 8)), shape])])
    files = write_data(tmp_path, b.model((3, 8, 8), (8, 64)))
    values = np.load(files["eval"])["input"][:20]
    found = decoder_of("yolov8")(OnnxRuntime(1).load(Path(files["model"])).run({"input": values}))
    np.savez(tmp_path / "boxes.npz", input=values, labels=np.stack([boxes[:5, :5] for boxes in found]))
    asked = {**files, "eval": str(tmp_path / "boxes.npz"), "metric": "map50", "decode": "yolov8"}
    report = start(asked, tmp_path / "run", target_accuracy=0.5, calibration="minmax").report()
    assert report.accuracy.metric == "map50"
    assert report.accuracy.plan >= report.accuracy.target > 0
    assert "map50" in verdict.headline(report)[2]
