"""Learned rounding and refinement for one plan in whole runs: what is delivered is what was scored."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.runs import Recorder, slow_device, stages_at_work, start, tiny_cnn, write_data
from trt_mpq.engine.handover import read_network, read_searched
from trt_mpq.pipeline.scored import ScoredNetwork
from trt_mpq.report.data import Report

pytest.importorskip("torch")

LEARNED = {
    "precisions": "int4", "target_accuracy": 0.92, "device": "l4", "latency": "modelled", "adaround": True,
    "adaround_steps": 10, "calibration": "mse",
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    return write_data(tmp_path_factory.mktemp("data"), tiny_cnn())


@pytest.fixture(scope="module")
def done(files, tmp_path_factory) -> tuple[Path, Report]:
    folder = tmp_path_factory.mktemp("done") / "run"
    return folder, start(files, folder, **LEARNED).report()


def constants(path_or_model: Path | onnx.ModelProto) -> dict[str, bytes]:
    model = onnx.load(path_or_model) if isinstance(path_or_model, Path) else path_or_model
    return {tensor.name: tensor.raw_data for tensor in model.graph.initializer}


def test_the_device_half_emits_what_was_verified(done) -> None:
    import onnx_ir as ir

    folder, _ = done
    searched = read_searched(folder)
    emitter = searched.emitter(read_network(folder).network(folder), folder)
    assert searched.own == searched.result.chosen.plan.digest
    emitted = ir.to_proto(emitter.strong(searched.result.chosen.plan))
    assert constants(emitted) == constants(folder / "typed.onnx")
    assert all((folder / name).is_file() for name in searched.files)
    assert "plan-corrections.npz" in searched.files


def test_rounding_learned_under_the_plan_is_delivered_where_it_is_better(files, tmp_path, monkeypatch) -> None:
    """On this network it is exactly as good, so the other way is spoiled."""
    import onnx_ir as ir

    original, seen = ScoredNetwork.evaluator_by, []

    def spoiled(self, job, refiner, stop):
        evaluator = original(self, job, refiner, stop)
        seen.append(refiner)
        if len(seen) == 1:
            score = evaluator.score
            evaluator.score = lambda plan: replace(score(plan), value=0.0)
        return evaluator

    monkeypatch.setattr(ScoredNetwork, "evaluator_by", spoiled)
    observer = Recorder()
    report = start(files, tmp_path / "run", observer, **LEARNED).report()
    assert len(seen) == 2
    assert "Learning how to round the plan's weights" in observer.stages
    assert "weights rounded and biases corrected anew, kept" in report.refinement[-1].detail
    searched = read_searched(tmp_path / "run")
    assert searched.own_rounded
    assert "roundings-plan.npz" in searched.files
    emitter = searched.emitter(read_network(tmp_path / "run").network(tmp_path / "run"), tmp_path / "run")
    emitted = ir.to_proto(emitter.strong(searched.result.chosen.plan))
    assert constants(emitted) == constants(tmp_path / "run" / "typed.onnx")


def test_the_written_file_scores_what_the_report_says(files, done) -> None:
    import onnxruntime

    folder, report = done
    data = np.load(files["eval"])
    session = onnxruntime.InferenceSession(folder / "reference.onnx", providers=["CPUExecutionProvider"])
    right = session.run(None, {"input": data["input"]})[0].argmax(axis=1) == data["labels"]
    assert float(np.mean(right)) == report.accuracy.plan >= report.accuracy.target


def test_rounding_comes_before_the_correction_and_each_says_what_it_did(done) -> None:
    _, report = done
    rounding, correction, chosen = report.refinement
    assert [r.name for r in report.refinement] == ["learned rounding", "bias correction", "for the chosen plan"]
    kept = rounding.after if "kept" in rounding.detail else rounding.before
    assert correction.before == kept, "biases are corrected on the network as it is rounded"
    assert chosen.after == report.accuracy.plan


def test_a_saved_group_says_so(files, tmp_path) -> None:
    settings = {**LEARNED, "adaround": False, "precisions": "int8,int4", "target_accuracy": 0.99}
    given = {"search": "bisection", "sensitivity": "noise", "device": slow_device(tmp_path / "slow.toml")}
    report = start(files, tmp_path / "run", **{**settings, **given}).report()
    refined, found = (
        json.loads((tmp_path / "run" / f"{name}.json").read_text(encoding="utf-8")) for name in ("refined", "search")
    )
    assert refined["rescued"], "this network has a group that its own corrections save"
    said = {row.id for row in report.group_rows if "saved by refinement for exactly this plan" in row.reason}
    assert said == set(refined["rescued"])
    precisions = {row.id: row.precision for row in report.group_rows}
    assert all(precisions[group] == precision for group, precision in refined["rescued"].items())
    assert report.latency_ms.plan < found["chosen"]["latency_ms"]
    assert report.accuracy.plan >= report.accuracy.target


def test_a_second_run_does_no_work_and_an_interrupted_one_ends_the_same(files, done, tmp_path) -> None:
    folder, report = done
    observer = Recorder()
    assert replace(start(files, folder, observer, **LEARNED).report(), created="") == replace(report, created="")
    assert observer.events == []
    whole = Recorder()
    start(files, tmp_path / "whole", whole, **LEARNED).report()
    for share in (0.3, 0.6, 0.85):
        with pytest.raises(KeyboardInterrupt):
            start(files, tmp_path / "run", Recorder(int(share * len(whole.events))), **LEARNED).report()
        again = start(files, tmp_path / "run", **LEARNED).report()
        same = {"created": "", "search": replace(report.search, seconds=0.0)}
        assert replace(again, created="", search=replace(again.search, seconds=0.0)) == replace(report, **same)
        shutil.rmtree(tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "redone", "left"),
    [
        (
            {"adaround_steps": 11},
            {"roundings-int4", "search", "roundings-plan", "refined", "delivery"},
            {"ranges", "sensitivity"},
        ),
        ({"refine_plan": False}, {"searched", "delivery"}, {"roundings-int4", "corrections", "search"}),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),  # the same in every process
)
def test_a_changed_setting_redoes_what_depends_on_it(files, done, tmp_path, monkeypatch, change, redone, left) -> None:
    copy = Path(shutil.copytree(done[0], tmp_path / "run"))
    worked = stages_at_work(monkeypatch)
    report = start(files, copy, **{**LEARNED, **change}).report()
    assert redone <= worked
    assert not left & worked
    if "refine_plan" in change:
        found = json.loads((copy / "search.json").read_text(encoding="utf-8"))["chosen"]
        assert report.accuracy.plan == found["score"]["value"]
        assert read_searched(copy).own is None


def test_a_uniform_search_stays_uniform(files, tmp_path) -> None:
    observer = Recorder()
    settings = {**LEARNED, "adaround": False, "search": "uniform"}
    result = start(files, tmp_path / "run", observer, **settings).search()
    assert len(result.chosen.plan.counts()) == 1
    assert "Refining for the chosen plan" not in observer.stages
