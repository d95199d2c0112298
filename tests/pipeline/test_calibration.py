"""Which calibration method each format gets, in whole runs whose methods are spoilt for one format or all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures_groups import make_chain, make_grouping
from tests.runs import Recorder, stages_at_work, start, tiny_cnn, write_data
from trt_mpq.calibrate.histogram import METHODS, Histogram, Method
from trt_mpq.engine.handover import read_network, read_searched
from trt_mpq.evaluate.plans import PlanEvaluator
from trt_mpq.pipeline.calibration_methods import half_lowered
from trt_mpq.pipeline.scoring import REQUIRED
from trt_mpq.types import Precision

FP8, INT8 = Precision.FP8, Precision.INT8
TWO = {"calibration": "percentile,minmax", "search": "uniform", "target_accuracy": 0.97, "device": "l4"}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    return write_data(tmp_path_factory.mktemp("data"), tiny_cnn())


def spoil(monkeypatch: pytest.MonkeyPatch, method: str, *formats: Precision, by: float = 30) -> None:
    """Let `method` clip nearly everything in `formats`; otherwise it is the largest magnitude."""

    def amax(histogram: Histogram, precision: Precision) -> float:
        return histogram.magnitude / (by if precision in formats else 1)

    monkeypatch.setitem(METHODS, method, Method(amax, needs_histogram=False))


def trials(folder: Path) -> list[tuple[str, str, bool]]:
    """What was tried, in the order in which it was."""
    done = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["stages"]
    found = [json.loads((folder / f"{name}.json").read_text()) for name in done if name.startswith("calibration-")]
    return [(trial["precision"], trial["method"], trial["keeps_target"]) for trial in found]


def test_the_first_method_that_keeps_the_target_is_taken(files, tmp_path) -> None:
    settings = {**TWO, "calibration": "minmax,percentile"}
    report = start(files, tmp_path / "run", **settings, precisions="int8").report()
    assert trials(tmp_path / "run") == [("int8", "minmax", True)]
    assert report.calibration.methods == {INT8: "minmax"}
    assert "calibration" not in [record.name for record in report.refinement], "there was no choice"


def test_nothing_is_scored_that_decides_nothing(files, tmp_path) -> None:
    """The uniform plan keeps the target with its biases corrected, and is the fastest of all."""
    settings = {**TWO, "search": "ilp", "target_accuracy": 0.5, "precisions": "int8"}
    observer = Recorder()
    report = start(files, tmp_path / "run", observer, **settings).report()
    assert report.search.unranked == "the fastest plan meets the target"
    assert "Refining for the chosen plan" not in observer.stages
    lines = (tmp_path / "run" / "evaluations.jsonl").read_text(encoding="utf-8").splitlines()
    keys = [key for _, key, *_ in map(json.loads, lines) if not key.startswith("file ")]
    assert all(key.endswith(" int8") or " " not in key for key in keys), "no plan is scored uncorrected but FP16"
    [record] = report.refinement
    assert (record.name, record.before) == ("bias correction", None)
    assert record.detail.endswith("corrected, kept")


def test_biases_stay_as_they_are_where_only_so_the_file_keeps_the_target(files, tmp_path, monkeypatch) -> None:
    """The corrected plan scores what is required, and its file does not; the choice of a method knows it too."""
    original = PlanEvaluator.of.__func__

    def spoiled(cls, network, refinements, *others):
        evaluator = original(cls, network, refinements, *others)
        if refinements.corrections:
            delivered = evaluator.delivered
            evaluator.delivered = lambda plan: replace(delivered(plan), value=0.0)
        return evaluator

    monkeypatch.setattr(PlanEvaluator, "of", classmethod(spoiled))
    settings = {**TWO, "calibration": "minmax,percentile", "search": "ilp", "target_accuracy": 0.5}
    run = start(files, tmp_path / "run", **settings, precisions="int8")
    report = run.report()
    assert trials(tmp_path / "run") == [("int8", "minmax", True)]
    [record] = report.refinement
    assert (record.name, record.kept) == ("bias correction", False)
    assert record.detail.endswith("dropped because the file would miss the target")
    assert report.search.unranked == "the fastest plan meets the target"
    assert read_searched(tmp_path / "run").result.chosen.delivered.value >= run.store[REQUIRED]


def test_a_method_that_misses_it_gives_way(files, tmp_path, monkeypatch) -> None:
    spoil(monkeypatch, "percentile", INT8)
    run = start(files, tmp_path / "run", **TWO, precisions="int8")
    report = run.report()
    assert trials(tmp_path / "run") == [("int8", "percentile", False), ("int8", "minmax", True)]
    record = report.refinement[0]
    assert (record.name, record.precision, record.detail) == ("calibration", INT8, "minmax; tried percentile too")
    assert record.before < run.store[REQUIRED] <= record.after
    assert record.after == report.accuracy.uniform[INT8]
    alone = start(files, tmp_path / "alone", **{**TWO, "calibration": "minmax"}, precisions="int8").report()
    assert alone.accuracy == report.accuracy


def test_a_method_that_surely_misses_is_not_scored_to_the_end(tmp_path, monkeypatch) -> None:
    """Neither with its biases corrected nor without; a figure that is an estimate is not reported."""
    spoil(monkeypatch, "percentile", INT8, by=300)
    files = write_data(tmp_path, tiny_cnn(), evaluation=600)
    report = start(files, tmp_path / "run", **TWO, precisions="int8").report()
    assert trials(tmp_path / "run") == [("int8", "percentile", False), ("int8", "minmax", True)]
    lines = (tmp_path / "run" / "evaluations.jsonl").read_text(encoding="utf-8").splitlines()
    samples = [line[4] for line in map(json.loads, lines) if "int8/percentile" in line[1]]
    assert len(samples) == 2
    assert max(samples) < 600
    record = report.refinement[0]
    assert (record.name, record.before, record.after) == ("calibration", None, report.accuracy.uniform[INT8])


def test_every_format_chooses_for_itself(files, tmp_path, monkeypatch) -> None:
    spoil(monkeypatch, "percentile", INT8)
    folder = tmp_path / "run"
    report = start(files, folder, **TWO, precisions="fp8,int8").report()
    assert report.calibration.methods == {FP8: "percentile", INT8: "minmax"}
    for precision, method in report.calibration.methods.items():
        alone = start(files, tmp_path / method, **{**TWO, "calibration": method}, precisions=str(precision)).report()
        assert alone.accuracy.uniform[precision] == report.accuracy.uniform[precision]
    described = read_network(folder)
    assert described.ranges.methods == report.calibration.methods
    assert read_searched(folder).emitter(described.network(folder), folder)


def test_without_one_that_keeps_it_each_tensor_has_its_own(files, tmp_path, monkeypatch) -> None:
    """One method spoils the first tensors that it sees, the other all that follow: neither is best everywhere."""
    tensors = [row.name for row in start(files, tmp_path / "plain", **TWO, precisions="int8").report().tensors]
    half = len(tensors) // 2
    assert half
    magnitudes = start(files, tmp_path / "plain", **TWO, precisions="int8").calibrate().tensors
    early = {magnitudes[name].magnitude for name in tensors[:half]}

    def spoiling(which: bool) -> Method:
        def amax(histogram: Histogram, precision: Precision) -> float:
            return histogram.magnitude / (40 if (histogram.magnitude in early) is which else 1)

        return Method(amax, needs_histogram=False)

    monkeypatch.setitem(METHODS, "percentile", spoiling(True))
    monkeypatch.setitem(METHODS, "minmax", spoiling(False))
    spoil(monkeypatch, "entropy", INT8, by=60)
    settings = {**TWO, "search": "ilp", "target_accuracy": 1.0, "calibration": "percentile,minmax,entropy"}
    folder = tmp_path / "run"
    run = start(files, folder, **settings, precisions="int8")
    report = run.report()
    assert [keeps for *_, keeps in trials(folder)] == [False, False, False]
    assert report.calibration.methods == {INT8: "per-tensor"}
    chosen = {row.name: row.methods[INT8] for row in report.tensors}
    assert chosen == {name: "minmax" if name in tensors[:half] else "percentile" for name in tensors}
    whole = run.calibrate()
    assert all(whole.tensors[name].amax[INT8] == magnitudes[name].magnitude for name in tensors)
    record = next(record for record in report.refinement if record.name == "calibration")
    assert record.detail.endswith("best with half of the groups lowered; tried percentile, minmax, entropy too")
    described = read_network(folder)
    assert described.ranges == whole
    assert report.accuracy.plan >= run.store[REQUIRED]


INT4_TWO = {
    "precisions": "int4", "target_accuracy": 1.0, "calibration": "mse,minmax", "device": "l4",
    "sensitivity_samples": 16,
}  # fmt: skip


def prefer(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Let the plan with half of the groups in INT4 score best by `method`."""
    score = PlanEvaluator.score

    def told(self, plan, *watch):
        found = score(self, plan, *watch)
        half = plan.counts().get(Precision.INT4, 0) == 2
        return replace(found, value=float(f"int4/{method}" in self._key(plan))) if half else found

    monkeypatch.setattr(PlanEvaluator, "score", told)


def test_workers_find_the_ranges_of_each_tensor_and_the_same_plan(files, tmp_path) -> None:
    reports = []
    for workers in (1, 2):
        run = start(files, tmp_path / str(workers), **INT4_TWO, workers=workers)
        with pytest.MonkeyPatch.context() as patch:
            prefer(patch, "per-tensor")
            assert run.calibrate().methods == {Precision.INT4: "per-tensor"}
        reports.append(run.report())
    alone, shared = reports
    assert [row.amax for row in shared.tensors] == [row.amax for row in alone.tensors]
    assert [step.plan for step in shared.search.path] == [step.plan for step in alone.search.path]


def test_a_method_for_all_tensors_is_taken_where_a_mixed_plan_scores_best_with_it(files, tmp_path, monkeypatch) -> None:
    """By noise each tensor would have its own."""
    prefer(monkeypatch, "minmax")
    run = start(files, tmp_path / "run", **INT4_TWO)
    assert run.calibrate().methods == {Precision.INT4: "minmax"}
    assert set(json.loads((tmp_path / "run" / "ranges-int4-by-tensor.json").read_text()).values()) == {"mse", "minmax"}


def test_what_serves_a_tensor_is_told_on_data_that_ranges_are_not_made_from(tmp_path, monkeypatch) -> None:
    """The largest magnitudes hold all of the calibration data, an outlier with it, and are coarse for other data."""
    files = write_data(tmp_path, tiny_cnn())
    calib = dict(np.load(files["calib"]))
    calib["input"][0] *= 8
    np.savez(files["calib"], **calib)
    spoil(monkeypatch, "percentile", INT8, by=4)
    settings = {**TWO, "search": "ilp", "metric": "sqnr", "target_accuracy": 1 - 1e-6}
    start(files, tmp_path / "run", **settings, precisions="int8").calibrate()
    chosen = json.loads((tmp_path / "run" / "ranges-int8-by-tensor.json").read_text())
    assert chosen["input"] == "percentile"


def test_ranges_that_were_tried_are_not_tried_again_under_another_name(files, tmp_path, monkeypatch) -> None:
    for method, by in (("percentile", 1e6), ("minmax", 4), ("entropy", 1e6)):
        spoil(monkeypatch, method, INT8, by=by)
    settings = {**TWO, "target_accuracy": 1.0, "calibration": "percentile,minmax,entropy", "precisions": "int8"}
    run = start(files, tmp_path / "run", **settings)
    assert run.calibrate().methods == {INT8: "minmax"}
    assert [method for _, method, _ in trials(tmp_path / "run")] == ["percentile", "minmax"]


@given(st.integers(1, 60))
def test_half_of_the_groups_that_may_are_lowered(count: int) -> None:
    odd = {INT8: "odd"}
    groups = tuple(replace(g, excluded=odd if n % 7 == 6 else {}) for n, g in enumerate(make_chain(count)))
    plan = half_lowered(make_grouping(groups), INT8)
    lowered = [group for group in groups if plan[group.id] is INT8]
    assert len(lowered) == (sum(group.allows(INT8) for group in groups) + 1) // 2
    assert all(group.allows(INT8) for group in lowered)


@pytest.mark.parametrize("period", [2, 3])
def test_the_half_is_in_step_with_no_pattern(period: int) -> None:
    groups = make_chain(40)
    lowered = [half_lowered(make_grouping(groups), INT8)[group.id] is INT8 for group in groups]
    shares = [np.mean(lowered[phase::period]) for phase in range(period)]
    assert all(0.2 < share < 0.8 for share in shares)


def test_a_file_that_misses_the_target_is_no_success(files, tmp_path, monkeypatch) -> None:
    scored = PlanEvaluator.delivered

    def lowered(self, plan):
        return replace(scored(self, plan), value=0.0)

    monkeypatch.setattr(PlanEvaluator, "delivered", lowered)
    start(files, tmp_path / "run", **TWO, precisions="int8").calibrate()
    assert [keeps for *_, keeps in trials(tmp_path / "run")] == [False, False]


@pytest.mark.parametrize("change", [{"search": "pareto"}, {"search": "ilp", "target_latency": 1.0}], ids=str)
def test_without_a_target_for_accuracy_none_is_scored(files, tmp_path, monkeypatch, change) -> None:
    spoil(monkeypatch, "percentile", INT8)
    folder = tmp_path / "run"
    settings = {**TWO, "calibration": "percentile,minmax", "precisions": "int8", **change}
    report = start(files, folder, **settings).report()
    assert trials(folder) == []
    assert report.calibration.methods == {INT8: "minmax"}
    record = report.refinement[0]
    assert (record.name, record.detail) == ("calibration", "minmax, best with half of the groups lowered")


def test_one_method_needs_no_score(files, tmp_path, monkeypatch) -> None:
    worked = stages_at_work(monkeypatch)
    start(files, tmp_path / "run", **{**TWO, "calibration": "minmax"}).calibrate()
    assert worked == {"model", "unknown-shapes", "groups", "ranges", "network"}


def test_what_was_tried_is_not_done_again(files, tmp_path, monkeypatch) -> None:
    spoil(monkeypatch, "percentile", INT8)
    folder = tmp_path / "run"
    start(files, folder, **TWO, precisions="int8").report()
    worked, observer = stages_at_work(monkeypatch), Recorder()
    (folder / "calibration-int8-minmax.json").unlink()
    start(files, folder, observer, **TWO, precisions="int8").report()
    assert worked == {"calibration-int8-minmax"}
    assert observer.events == []
